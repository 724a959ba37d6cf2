from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from safetensors.numpy import save_file  # noqa: E402
from torch import nn  # noqa: E402

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions.controls import layer_matched  # noqa: E402
from levercheck.readouts import geometry  # noqa: E402


def test_cosine_and_fraction_by_hand():
    vectors = np.array([[3.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 1.0, 0, 0]])
    layers = [0, 1, 1]
    x = np.array([[1.0, 0, 0, 0]])
    assert geometry.signed_cosine(vectors, layers, x) == pytest.approx(3 / 13**0.5)
    assert geometry.signed_cosine(-vectors, layers, x) == pytest.approx(-3 / 13**0.5)
    assert geometry.subspace_fraction(vectors, layers, x) == pytest.approx(1)
    tilted = np.array([[0.6, 0, 0.8, 0]])
    assert geometry.subspace_fraction(vectors, layers, tilted) == pytest.approx(0.36)
    assert geometry.subspace_fraction(1e6 * vectors, layers, tilted) == pytest.approx(0.36)
    cancelled = np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    assert geometry.signed_cosine(cancelled, [0, 1], x) == 0
    assert geometry.subspace_fraction(cancelled, [0, 1], x) == pytest.approx(1)


def test_one_direction_per_layer_lays_the_layers_end_to_end():
    vectors = np.array([[3.0, 0], [0, 4.0]])
    per_layer = np.array([[1.0, 0], [9.0, 9.0], [0, -1.0]])  # layer 1 has no component and must not count
    along = 3 * 1 + 4 * -1
    assert geometry.signed_cosine(vectors, [0, 2], per_layer) == pytest.approx(along / (5 * 2**0.5))
    mixed = np.array([[1.0, 0], [0, 0], [0.6, 0.8]])
    assert geometry.subspace_fraction(vectors, [0, 2], mixed) == pytest.approx((1 + 0.64) / 2)


@pytest.mark.parametrize("hidden", [5, 8])
def test_the_gain_of_every_kind_of_norm_is_measured(hidden):
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(1)
    weight = torch.randn(hidden)
    vectors = torch.randn(3, hidden, dtype=torch.float64)
    layer_norm = nn.LayerNorm(hidden)
    llama, gemma = LlamaRMSNorm(hidden), Gemma2RMSNorm(hidden)
    for module in (layer_norm, llama, gemma):
        module.weight.data.copy_(weight)
    layer_norm.bias.data.normal_()
    w, v = weight.double(), vectors
    expected = {llama: v * w, gemma: v * (1 + w), layer_norm: (v - v.mean(-1, keepdim=True)) * w}
    for module, wanted in expected.items():
        assert torch.allclose(geometry.norm_gain(module, hidden)(v), wanted, atol=1e-5), module
        half = geometry.norm_gain(module.bfloat16(), hidden)(v)
        assert torch.allclose(half, wanted, rtol=0.02, atol=0.02)
        assert module.weight.dtype == torch.bfloat16  # the model's own norm is left as it was


def test_a_module_that_is_no_norm_is_refused():
    with pytest.raises(UsageError, match="neither an RMS norm"):
        geometry.norm_gain(nn.Linear(6, 6), 6)


def test_write_vectors_are_what_the_residual_stream_receives(tiny):
    """Change one activation by hooks and compare the change of the layer's output with the write vector."""
    ids = torch.tensor([[5, 9, 11]])
    normed = tiny.name.startswith("gemma")
    assert (geometry.post_mlp_norm(tiny, 0) is not None) == normed
    assert ("gain" in geometry.basis_note(tiny)) == normed
    layer, index = 1, 7
    stack = tiny.decoder.get_submodule(tiny.sites[0].path.partition(".")[0])
    seen = {}

    def run(delta):
        def push(_m, args):
            z = args[0].clone()
            z[..., index] += delta
            return (z,)

        handles = [
            tiny.sites[layer].module.register_forward_pre_hook(push),
            stack[layer].register_forward_hook(
                lambda _m, _a, out: seen.update(h=(out[0] if isinstance(out, tuple) else out).double())
            ),
        ]
        if normed:  # the norm's scale follows its input: hold it, so that only the direction speaks
            norm = geometry.post_mlp_norm(tiny, layer)[1]
            gain = geometry.norm_gain(norm, 32).gain.float()
            handles.append(norm.register_forward_hook(lambda _m, args, _o: args[0] * gain))
        try:
            with torch.inference_mode():
                tiny.decoder(input_ids=ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return seen["h"][0, -1].numpy()

    moved = run(0.5) - run(0.0)
    expected = 0.5 * geometry.write_vectors(tiny, [(layer, index)])[0]
    assert np.allclose(moved.reshape(-1), expected, atol=1e-5)


@pytest.mark.parametrize("tiny", ["gemma3_text"], indirect=True)
def test_gemma_norms_turn_the_write_vectors(tiny):
    norm = geometry.post_mlp_norm(tiny, 2)[1]
    before = norm.weight.clone()
    try:
        norm.weight.data.copy_(torch.linspace(-0.5, 1, 32))
        found = geometry.write_vectors(tiny, [(2, 3)])[0]
        column = tiny.sites[2].write[:, 3].double().numpy()
        assert np.allclose(found, column * (1 + np.linspace(-0.5, 1, 32)), rtol=1e-5)
    finally:
        norm.weight.data.copy_(before)


def _planted(tiny, along):
    """Controls for six neurons; the target's write vectors are made to lie along a direction, or not."""
    target = [(0, 1), (0, 4), (1, 2), (2, 5), (2, 6), (2, 40)]
    controls = layer_matched(target, 48, exclude=target, draws=100, seed=3)
    direction = np.zeros((1, 32))
    direction[0, ::2] = 1 / 4
    sites = {layer: tiny.sites[layer].write for layer, _ in target}
    kept = {layer: write.clone() for layer, write in sites.items()}
    if along:
        for layer, index in target:
            sites[layer][:, index] = torch.tensor(direction[0] * (5.0 if layer == 2 else 1.0), dtype=torch.float32)
    return target, controls, direction, sites, kept


unturned = pytest.mark.parametrize("tiny", ["gpt2", "gpt_neox", "llama"], indirect=True)  # no norm after the MLP


@unturned
def test_planted_writes_stand_out_and_random_ones_do_not(tiny):
    target, controls, direction, sites, kept = _planted(tiny, along=True)
    try:
        found = geometry.overlap(tiny, target, direction, controls)
        assert found["cosine"]["value"] == pytest.approx(1)
        assert found["fraction"]["value"] == pytest.approx(1)
        assert found["rank"] == 1
        assert found["cosine"]["p"] == found["cosine"]["attainable_p"] == pytest.approx(2 / 101)
        assert found["cosine"]["below"]["value"] == 1
        assert found["dominant_layer"] == 2
        layers = {entry["layer"]: entry for entry in found["layers"]}
        assert [layers[n]["projection"] for n in (0, 1, 2)] == pytest.approx([2, 1, 15], rel=1e-5)
        assert layers[2]["neurons"] == 3
        assert layers[2]["cosine_without"]["value"] == pytest.approx(1)  # the other layers carry it too
        assert "fraction_without" in layers[2] and "fraction_without" not in layers[0]
        flipped = geometry.overlap(tiny, target, direction, controls, weights=[-1.0] * 6)
        assert flipped["cosine"]["value"] == pytest.approx(-1)
        assert flipped["cosine"]["p"] == pytest.approx(2 / 101)
    finally:
        for layer, write in kept.items():
            sites[layer].copy_(write)
    null = geometry.overlap(tiny, controls[0], direction, controls[1:] + controls[1:2])
    assert null["cosine"]["p"] > 0.02
    assert abs(null["cosine"]["value"]) < 0.9


@unturned
def test_one_layer_alone_carries_the_overlap(tiny):
    target, controls, direction, sites, kept = _planted(tiny, along=False)
    try:
        for layer, index in target:
            planted = direction[0] * 50 if layer == 2 else np.roll(direction[0], 1)  # the roll is orthogonal
            sites[layer][:, index] = torch.tensor(planted, dtype=torch.float32)
        found = geometry.overlap(tiny, target, direction, controls)
        assert found["dominant_layer"] == 2
        (entry,) = (e for e in found["layers"] if e["layer"] == 2)
        assert found["cosine"]["value"] > 0.99
        assert entry["cosine_without"]["value"] == pytest.approx(0, abs=1e-6)
        assert entry["fraction_without"]["value"] == pytest.approx(0, abs=1e-6)
    finally:
        for layer, write in kept.items():
            sites[layer].copy_(write)


def test_weights_and_activations_follow_their_neurons(tiny):
    target = [(2, 6), (0, 1)]  # not in layer order
    controls = layer_matched(target, 48, exclude=target, draws=100, seed=0)
    activation = np.ones((3, 48))
    activation[2, 6], activation[0, 1] = 3.0, -2.0
    direction = np.eye(32)[:1]
    found = geometry.overlap(tiny, target, direction, controls, weights=[0.5, 4.0], activation=activation)
    one, other = geometry.write_vectors(tiny, target)
    total = one * 0.5 * 3.0 + other * 4.0 * -2.0
    assert found["cosine"]["value"] == pytest.approx(total[0] / np.linalg.norm(total))
    assert found["weighted_by"] == ["weight", "activation"]
    plain = geometry.overlap(tiny, target, direction, controls)
    assert found["fraction"]["value"] == pytest.approx(plain["fraction"]["value"])


def test_unmatched_or_few_controls_are_refused(tiny):
    target = [(0, 1), (1, 2)]
    controls = layer_matched(target, 48, exclude=target, draws=100, seed=0)
    direction = np.eye(32)[:1]
    with pytest.raises(UsageError, match="99 control sets, expected at least 100"):
        geometry.overlap(tiny, target, direction, controls[:99])
    with pytest.raises(UsageError, match="other numbers of neurons per layer"):
        geometry.overlap(tiny, target, direction, [*controls[:99], ((0, 3), (0, 4))])
    with pytest.raises(UsageError, match="nothing to compare"):
        geometry.overlap(tiny, [], direction, controls)


def test_mean_activations_keep_their_sign(tiny):
    sequences = [[3, 4, 5], [8, 9]]
    seen = []
    handle = tiny.sites[1].module.register_forward_hook(lambda _m, args, _o: seen.append(args[0][0, -1].double()))
    found = geometry.mean_activations(tiny, sequences)
    handle.remove()
    assert found.shape == (3, 48)
    assert np.allclose(found[1], torch.stack(seen).mean(0).numpy())
    assert (found < 0).any()


def test_directions_are_read_and_bad_ones_named(tmp_path):
    vector = np.array([3.0, 4.0], dtype=np.float32)
    np.save(tmp_path / "d.npy", vector)
    assert np.allclose(geometry.read_direction(tmp_path / "d.npy", 2, 5), [[0.6, 0.8]])
    save_file({"refusal": np.stack([vector, -vector, vector])}, tmp_path / "d.safetensors")
    assert np.allclose(geometry.read_direction(tmp_path / "d.safetensors", 2, 3)[1], [-0.6, -0.8])
    from safetensors.torch import save_file as save_torch

    save_torch({"d": torch.tensor([3.0, 4.0], dtype=torch.bfloat16)}, tmp_path / "b.safetensors")
    assert np.allclose(geometry.read_direction(tmp_path / "b.safetensors", 2, 3), [[0.6, 0.8]])

    def refused(name, words, **arrays):
        with pytest.raises(UsageError, match=words) as caught:
            geometry.read_direction(tmp_path / name, 2, 3)
        assert "\n" not in str(caught.value)

    np.save(tmp_path / "wide.npy", np.ones(7))
    refused("wide.npy", r"shape \[7\], expected \[2\] or \[3, 2\]")
    np.save(tmp_path / "zero.npy", np.array([[1, 1], [0, 0], [1, 1]]))
    refused("zero.npy", "length zero")
    np.save(tmp_path / "nan.npy", np.array([1.0, np.nan]))
    refused("nan.npy", "not finite")
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    refused("words.npy", "real numbers")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    refused("pickle.npy", "cannot be read")
    save_file({"a": vector, "b": vector}, tmp_path / "two.safetensors")
    refused("two.safetensors", "2 tensors, expected one")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    refused("broken.safetensors", "cannot be read")
    (tmp_path / "empty.npy").write_bytes(b"")
    refused("empty.npy", "cannot be read")
    refused("absent.npy", "No such file")
    (tmp_path / "d.pt").write_bytes(b"x")
    refused("d.pt", "neither .safetensors nor .npy")
