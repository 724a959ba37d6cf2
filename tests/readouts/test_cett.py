"""CETT against its definition, computed the slow way in float64."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.lm.batches import SharedPrefix, equal_batches  # noqa: E402
from levercheck.lm.model import LanguageModel  # noqa: E402
from levercheck.readouts.cett import cett_batch  # noqa: E402


def definition(lm, sequence, span):
    """One sequence, one token, one layer at a time, float64 weights and activations, no prefix cache."""
    model = copy.deepcopy(lm.model).double()
    for module in model.modules():  # the reference must not share a kernel with what it checks
        if isinstance(module, torch.nn.Linear):
            module.__class__ = torch.nn.Linear
    double = LanguageModel(lm.name, model, lm.tokenizer, {})
    seen = {}
    handles = [
        site.module.register_forward_hook(lambda m, i, o, layer=site.layer: seen.__setitem__(layer, (i[0][0], o[0])))
        for site in double.sites
    ]
    with torch.no_grad():
        model(torch.tensor([sequence]))
    for handle in handles:
        handle.remove()
    out = torch.zeros(double.shape, dtype=torch.float64)
    for site in double.sites:
        z, h = seen[site.layer]
        for t in range(*span):
            length = h[t].norm()
            for j in range(double.shape[1]) if double.shape[1] < 100 else [slice(None)]:
                out[site.layer, j] += z[t, j].abs() * site.write[:, j].norm(dim=0) / (length + 1e-8)
    return out / (span[1] - span[0])


def random_sequences(count, low, high, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(low, high, (count,), generator=generator).tolist()
    return [torch.randint(3, 97, (n,), generator=generator).tolist() for n in lengths]


def captured(lm, prefix_ids, sequences, spans, limit):
    prefix = SharedPrefix(lm, prefix_ids)
    out = torch.empty(len(sequences), *lm.shape)
    for batch in equal_batches(sequences, len, limit):
        out[batch] = cett_batch(lm, prefix, [sequences[i] for i in batch], [spans[i] for i in batch])
    return out


def test_equals_the_definition_on_every_architecture(tiny):
    prefix, sequences = [5, 6, 7, 8, 9], random_sequences(6, 6, 12)
    spans = [(len(s) - 3 - i % 2, len(s)) for i, s in enumerate(sequences)]
    found = captured(tiny, prefix, sequences, spans, limit=4)
    for i, (sequence, (a, b)) in enumerate(zip(sequences, spans, strict=True)):
        wanted = definition(tiny, prefix + sequence, (a + len(prefix), b + len(prefix)))
        assert wanted.max() > 0.05
        assert (found[i].double() - wanted).abs().max() < 2e-6


def test_batching_and_prefix_change_nothing(tiny):
    prefix, sequences = [5, 6, 7], random_sequences(8, 8, 10, seed=1)
    spans = [(2, len(s) - 1) for s in sequences]
    batched = captured(tiny, prefix, sequences, spans, limit=8)
    single = captured(tiny, prefix, sequences, spans, limit=1)
    whole = captured(tiny, [], [prefix + s for s in sequences], [(a + 3, b + 3) for a, b in spans], limit=8)
    assert (batched - single).abs().max() < 2e-6
    assert (batched - whole).abs().max() < 2e-6


def test_equals_the_definition_on_a_real_model(smollm):
    lm = smollm
    prefix = lm.encode("Question: How many legs does a spider have?\nAnswer: 8\n\n")
    texts = [
        ("Question: What is the capital of France?\nAnswer:", " Paris"),
        ("Question: Where is Lyon?\nAnswer:", " In France"),
    ]
    sequences = [lm.encode(q) + lm.encode(a) for q, a in texts]
    spans = [(len(lm.encode(q)), len(s)) for (q, _), s in zip(texts, sequences, strict=True)]
    found = captured(lm, prefix, sequences, spans, limit=8)
    for i, (sequence, (a, b)) in enumerate(zip(sequences, spans, strict=True)):
        wanted = definition(lm, prefix + sequence, (a + len(prefix), b + len(prefix)))
        assert (found[i].double() - wanted).abs().max() < 2e-6


def test_batched_equals_single_on_a_real_model(smollm):
    lm = smollm
    prompt = lm.encode("Question: What is the capital of Peru?\nAnswer:")
    sequences = [
        [*prompt, *torch.randint(100, 40000, (4,), generator=torch.Generator().manual_seed(i)).tolist()]
        for i in range(16)
    ]
    spans = [(len(prompt), len(prompt) + 4)] * 16
    batched = captured(lm, prompt, sequences, spans, limit=16)
    single = captured(lm, prompt, sequences, spans, limit=1)
    assert (batched - single).abs().max() < 2e-6


@pytest.mark.parametrize("span", [(3, 3), (-1, 2), (2, 99)])
def test_impossible_spans_are_refused(tiny, span):
    with pytest.raises(UsageError, match="span"):
        cett_batch(tiny, SharedPrefix(tiny, []), [[5, 6, 7, 8]], [span])
