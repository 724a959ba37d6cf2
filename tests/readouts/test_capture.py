"""Capture over regions: against a float64 reference, for any batch, padding side and channel."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.detect.capture import regions_of  # noqa: E402
from levercheck.errors import UsageError  # noqa: E402
from levercheck.lm.batches import SharedPrefix  # noqa: E402
from levercheck.readouts.cett import EPSILON, capture_batch  # noqa: E402
from levercheck.readouts.store import Channel  # noqa: E402

CHANNELS = [
    Channel(region, measure, reduce)
    for region, measure, reduce in itertools.product(
        ("answer", "other", "prompt", "output"), ("cett", "abs"), ("mean", "max")
    )
]
SEQUENCES = [[5, 9, 12, 7, 3, 8], [4, 4, 6], [11, 2 + 8, 13, 14, 15, 16, 17, 18, 19], [30, 31, 32, 33, 34]]
SPANS = [(3, (1, 2)), (1, (0, 2)), (4, (0, 3)), (2, (1, 3))]  # prompt length, answer inside the response


def close(got, expected):
    """Within 2e-6, and 2e-5 of the value where it is large: |z| and the CETT of single tokens are not bounded by 1."""
    return bool(((got.double() - expected.double()).abs() <= 2e-6 + 2e-5 * expected.double().abs()).all())


def regions():
    return [regions_of(p, span, len(s) - p) for s, (p, span) in zip(SEQUENCES, SPANS, strict=True)]


@torch.inference_mode()
def reference(lm, prefix, sequence, pieces):
    """Every channel of one sequence in float64, with no batch, no cache and no code of ours."""
    seen = {}
    hooks = [
        site.module.register_forward_hook(
            lambda _m, args, out, layer=site.layer: seen.__setitem__(layer, (args[0][0].double(), out[0].double()))
        )
        for site in lm.sites
    ]
    lm.decoder(input_ids=torch.tensor([[*prefix, *sequence]]), use_cache=False)
    for hook in hooks:
        hook.remove()
    rows = []
    for channel in CHANNELS:
        at = [len(prefix) + i for start, stop in pieces[channel.region] for i in range(start, stop)]
        layers = []
        for site in lm.sites:
            z, h = seen[site.layer]
            values = z.abs()
            if channel.measure == "cett":
                norms = site.write.double().norm(dim=0)
                values = values * norms / (h.norm(dim=-1, keepdim=True) + EPSILON)
            part = values[at]
            layers.append(part.mean(0) if channel.reduce == "mean" else part.amax(0))
        rows.append(torch.stack(layers))
    return torch.stack(rows)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("prefix", [[], [21, 22, 23]])
def test_equals_the_reference(tiny, padding, prefix):
    shared = SharedPrefix(tiny, prefix)
    got = capture_batch(tiny, shared, SEQUENCES, regions(), CHANNELS, padding=padding)
    assert got.dtype == torch.float32
    for i, (sequence, pieces) in enumerate(zip(SEQUENCES, regions(), strict=True)):
        assert close(got[:, i], reference(tiny, prefix, sequence, pieces))
    assert got.std() > 0.01


@pytest.mark.parametrize("padding", ["right", "left"])
def test_batch_size_does_not_matter(tiny, padding):
    shared = SharedPrefix(tiny, [21, 22])
    together = capture_batch(tiny, shared, SEQUENCES, regions(), CHANNELS, padding=padding)
    for i, (sequence, pieces) in enumerate(zip(SEQUENCES, regions(), strict=True)):
        alone = capture_batch(tiny, shared, [sequence], [pieces], CHANNELS)
        assert close(together[:, i], alone[:, 0])


def test_real_model_any_padding_any_batch(smollm):
    texts = ["Question: What is the capital of France?\nAnswer: Paris", "Q: 2+2?\nA: 4", "Water is H2O, salt is NaCl."]
    sequences = [smollm.encode(t) for t in texts]
    pieces = [regions_of(len(s) - 3, (1, 2), 3) for s in sequences]
    prefix = SharedPrefix(smollm, smollm.encode("Answer the questions.\n"))
    channels = [Channel("answer"), Channel("other"), Channel("answer", "abs", "max")]
    right = capture_batch(smollm, prefix, sequences, pieces, channels)
    left = capture_batch(smollm, prefix, sequences, pieces, channels, padding="left")
    single = torch.cat(
        [capture_batch(smollm, prefix, [s], [p], channels) for s, p in zip(sequences, pieces, strict=True)], dim=1
    )
    for other in (left, single):
        assert close(other[:2], right[:2])
        assert (other[2] - right[2]).abs().max() <= 1e-5 * right[2].max()  # |z| has the scale of its largest values


def test_regions_divide_the_sequence():
    pieces = regions_of(4, (1, 3), 5)
    inside = {name: {i for a, b in region for i in range(a, b)} for name, region in pieces.items()}
    assert inside["answer"] == {5, 6}
    assert inside["answer"] | inside["other"] == set(range(9)) == inside["prompt"] | inside["output"]
    assert not inside["answer"] & inside["other"]


@pytest.mark.parametrize("pieces", [{"answer": [(2, 2)]}, {"answer": [(1, 9)]}, {"answer": [(-1, 2)]}])
def test_bad_regions_are_refused(tiny, pieces):
    with pytest.raises(UsageError, match="region answer"):
        capture_batch(tiny, SharedPrefix(tiny, []), [[5, 6, 7]], [pieces], [Channel("answer")])
