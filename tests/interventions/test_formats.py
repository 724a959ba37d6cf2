"""Vector files of other programs, written here as those programs write them, and ours read back by their rules."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")
gguf = pytest.importorskip("gguf", reason="needs levercheck[lm]")
from safetensors.numpy import save_file  # noqa: E402

from levercheck.errors import IntegrityError, UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.formats import folded, interventions_of, read_vectors, write_vectors  # noqa: E402
from levercheck.interventions.scopes import parse_scope  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.interventions.steering import steered  # noqa: E402
from levercheck.lm.places import MLP_OUT, RESID_POST, RESID_PRE, Site, place  # noqa: E402
from levercheck.lm.sites import decoder_layers  # noqa: E402

IDS = torch.tensor([[5, 9, 13, 60, 22, 7, 81]])
V = {n: np.random.default_rng(n).normal(size=32).astype(np.float32) * (n + 1) for n in range(3)}


def repeng(path, vectors, hint="llama"):
    """As repeng's export_gguf and llama.cpp's cvector-generator write it."""
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(vectors))
    for layer, vector in vectors.items():
        writer.add_tensor(f"direction.{layer}", vector)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def logits(lm, hooks=()):
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        with torch.no_grad():
            return lm.model(input_ids=IDS).logits.clone()
    finally:
        for handle in handles:
            handle.remove()


def edited(change):
    """A hook on a module's output, as the other programs install it."""

    def hook(_module, _args, out):
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    return hook


def under(lm, parts):
    with steered(lm, Treatment(tuple((part, 1.0) for part in parts))):
        return logits(lm)


def same(lm, file, hooks):
    """Dose 1 of the import does what the other program's hooks do, and that is something."""
    found, wanted = under(lm, interventions_of(lm, file)), logits(lm, hooks)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert float((wanted - logits(lm)).abs().max()) > 1e-2


def blocks(lm):
    return decoder_layers(lm.decoder)[1]


def test_gguf_adds_direction_n_behind_block_n(tiny, tmp_path):
    repeng(tmp_path / "v.gguf", {1: V[1], 2: V[2]})
    file = read_vectors(tmp_path / "v.gguf")
    assert [str(v.site) for v in file.vectors] == ["L1.resid.post", "L2.resid.post"]
    assert file.facts["model_hint"] == "llama"
    same(tiny, file, [(blocks(tiny)[n], edited(lambda h, n=n: h + torch.from_numpy(V[n]))) for n in (1, 2)])
    relative = interventions_of(tiny, file, unit="relative")[0]
    assert [np.linalg.norm(e.arrays["direction"]) for e in relative.edits] == pytest.approx([1, 1], rel=1e-6)


@pytest.mark.parametrize("nested", [True, False])
def test_svec_of_both_programs(tiny, tmp_path, nested):
    directions = {str(n): [V[n].tolist()] if nested else V[n].tolist() for n in (0, 2)}
    body = {"model_type": "llama", "directions": directions, "explained_variances": {"0": 0.3, "2": 0.4}}
    (tmp_path / "v.svec").write_text(json.dumps(body))
    file = read_vectors(tmp_path / "v.svec")
    same(tiny, file, [(blocks(tiny)[n], edited(lambda h, n=n: h + torch.from_numpy(V[n]))) for n in (0, 2)])
    for change, message in (
        ({"num_heads": 4, "head_dim": 8}, "per head"),
        ({"directions": {"1": [[1.0], [2.0]]}}, "shape"),
    ):
        (tmp_path / "w.svec").write_text(json.dumps({**body, **change}))
        with pytest.raises(UsageError, match=message):
            read_vectors(tmp_path / "w.svec")


def test_lm_eval_add_and_clamp(tiny, tmp_path):
    name = decoder_layers(tiny.decoder)[0]
    bias = torch.from_numpy(V[0])
    content = {
        f"{name}.1": {
            "steering_vector": torch.from_numpy(V[1]),
            "steering_coefficient": 2.5,
            "action": "add",
            "bias": None,
        },
        f"{name}.2": {
            "steering_vector": torch.from_numpy(V[2]),
            "steering_coefficient": 4.0,
            "action": "clamp",
            "bias": bias,
            "head_index": None,
        },
    }
    torch.save(content, tmp_path / "v.pt")

    def clamp(acts):
        direction = torch.from_numpy(V[2]) / torch.from_numpy(V[2]).norm()
        acts = acts - bias
        along = (acts * direction).sum(-1, keepdim=True)
        return acts + (4.0 - along) * direction + bias

    add = edited(lambda h: h + 2.5 * torch.from_numpy(V[1]))
    file = read_vectors(tmp_path / "v.pt")
    assert [p.operator for p in interventions_of(tiny, file)] == ["ablate", "add"]
    same(tiny, file, [(blocks(tiny)[1], add), (blocks(tiny)[2], edited(clamp))])
    torch.save([{"hookpoint": k, **v} for k, v in content.items()], tmp_path / "list.pt")
    assert [v.site for v in read_vectors(tmp_path / "list.pt").vectors] == [v.site for v in file.vectors]
    for change, message in (
        ({"head_index": 3}, "one head"),
        ({"action": "scale"}, "action 'scale'"),
        ({"action": "add", "bias": bias}, "refuses too"),
    ):
        torch.save({f"{name}.2": {**content[f"{name}.2"], **change}}, tmp_path / "bad.pt")
        with pytest.raises(UsageError, match=message):
            read_vectors(tmp_path / "bad.pt")
    torch.save({"lm_head": content[f"{name}.2"]}, tmp_path / "bad.pt")
    with pytest.raises(UsageError, match="none of our sites"):
        read_vectors(tmp_path / "bad.pt")


def test_lm_eval_module_outputs_are_sites_only_without_a_norm_behind_them(tiny, tmp_path):
    name = decoder_layers(tiny.decoder)[0]
    entry = {"steering_vector": torch.from_numpy(V[1]), "steering_coefficient": 1.0, "action": "add", "bias": None}
    torch.save({f"{name}.1.mlp": entry}, tmp_path / "v.pt")
    file = read_vectors(tmp_path / "v.pt")
    assert file.vectors[0].site == Site(1, MLP_OUT)
    if tiny.name.startswith("gemma"):
        with pytest.raises(UsageError, match="not what this model adds"):
            interventions_of(tiny, file)
    else:
        same(tiny, file, [(blocks(tiny)[1].mlp, edited(lambda h: h + torch.from_numpy(V[1])))])


def test_refusal_direction_counts_block_inputs(tiny, tmp_path):
    torch.save(torch.from_numpy(V[1]).double(), tmp_path / "direction.pt")
    with pytest.raises(UsageError, match="does not say of which layer"):
        read_vectors(tmp_path / "direction.pt")
    assert read_vectors(tmp_path / "direction.pt", layer=2).vectors[0].site == Site(2, RESID_POST)
    (tmp_path / "direction_metadata.json").write_text(json.dumps({"pos": -2, "layer": 2}))
    file = read_vectors(tmp_path / "direction.pt")
    assert file.vectors[0].site == Site(1, RESID_POST)

    def pre(_module, args, kwargs):
        states = (args[0] if args else kwargs["hidden_states"]) + torch.from_numpy(V[1])
        return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

    handle = blocks(tiny)[2].register_forward_pre_hook(pre, with_kwargs=True)
    wanted = logits(tiny)
    handle.remove()
    assert torch.allclose(under(tiny, interventions_of(tiny, file)), wanted, atol=1e-4)
    (tmp_path / "generate_directions").mkdir()
    diffs = torch.zeros(3, 3, 32)
    diffs[1, 2] = torch.from_numpy(V[1])
    torch.save(diffs, tmp_path / "generate_directions" / "mean_diffs.pt")
    selected = read_vectors(tmp_path / "generate_directions" / "mean_diffs.pt").vectors
    assert len(selected) == 1 and selected[0].site == Site(1, RESID_POST)
    np.testing.assert_allclose(selected[0].values, V[1])
    (tmp_path / "direction_metadata.json").unlink()
    torch.save(torch.from_numpy(np.stack([np.stack(list(V.values()))] * 2)), tmp_path / "mean_diffs.pt")
    sites = [v.site for v in read_vectors(tmp_path / "mean_diffs.pt").vectors]
    assert sites == [Site(0, RESID_PRE), Site(0, RESID_POST), Site(1, RESID_POST)]


def test_plain_arrays(tmp_path):
    save_file({"layer.1": V[1], "2": V[2]}, tmp_path / "a.safetensors")
    save_file({"L1.resid.post": V[1], "blocks.2.hook_resid_post": V[2]}, tmp_path / "b.safetensors")
    torch.save({1: torch.from_numpy(V[1]), 2: torch.from_numpy(V[2]).bfloat16()}, tmp_path / "c.pt")
    for name in ("a.safetensors", "b.safetensors", "c.pt"):
        file = read_vectors(tmp_path / name)
        assert sorted(v.site for v in file.vectors) == [Site(1, RESID_POST), Site(2, RESID_POST)]
    table = np.stack([np.zeros(32, np.float32), *V.values()])
    np.save(tmp_path / "d.npy", table)
    file = read_vectors(tmp_path / "d.npy", layers=3)
    assert [v.site.layer for v in file.vectors] == [0, 1, 2] and "embedding" in file.facts["layers"]
    np.testing.assert_array_equal(file.vectors[1].values, V[1])
    np.save(tmp_path / "d.npy", table[1:])
    np.testing.assert_array_equal(read_vectors(tmp_path / "d.npy", layers=3).only([1]).vectors[0].values, V[1])
    with pytest.raises(UsageError, match="has 3 rows, expected 7"):
        read_vectors(tmp_path / "d.npy", layers=7)
    with pytest.raises(UsageError, match="layer 9 is not in"):
        read_vectors(tmp_path / "d.npy", layers=3).only([9])


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_nothing_is_unpickled_and_damage_is_said(tmp_path, capsys):
    torch.save({"layers.1": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    np.save(tmp_path / "evil.npy", np.array([Evil()], object), allow_pickle=True)
    for name in ("evil.pt", "evil.pkl", "evil.npy"):
        with pytest.raises(UsageError, match="unpickling") as caught:
            read_vectors(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "unpickled" not in capsys.readouterr().out
    for name in ("d.gguf", "d.svec", "d.safetensors", "d.npy", "d.pt"):
        (tmp_path / name).write_bytes(b"\x93NUMPY" if name == "d.npy" else b"PK\x03\x04 not a file" * 3)
        with pytest.raises((IntegrityError, UsageError)) as caught:
            read_vectors(tmp_path / name)
        assert "\n" not in str(caught.value)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(UsageError, match="architecture 'llama'"):
        read_vectors(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match="no known vector file"):
        (tmp_path / "v.txt").write_text("1")
        read_vectors(tmp_path / "v.txt")


@pytest.mark.parametrize("to", ["gguf", "repeng", "lm-eval", "svec", "safetensors"])
def test_written_files_come_back_with_the_dose_folded_in(tiny, to, tmp_path):
    made = build.add_direction(tiny, {1: V[1], 2: V[2]}, sigma={1: 2.0, 2: 5.0}, unit="sigma")
    vectors = folded(made, 3.0)
    name = decoder_layers(tiny.decoder)[0]
    ending = {"repeng": "gguf", "lm-eval": "pt"}.get(to, to)
    path = tmp_path / f"v.{ending}"
    options = {"model_type": "llama", "layer_path": name, "metadata": {"dose": "3"}}
    write_vectors(path, to, vectors, **options)
    file = read_vectors(path)
    with steered(tiny, Treatment(((made, 3.0),))):
        wanted = logits(tiny)
    assert torch.allclose(under(tiny, interventions_of(tiny, file)), wanted, atol=1e-4)
    with pytest.raises(UsageError, match="exists"):
        write_vectors(path, to, vectors, **options)
    first = folded(build.add_direction(tiny, {0: V[0]}), 1.0)
    again = tmp_path / f"w.{ending}"
    if to == "gguf":
        with pytest.raises(UsageError, match="block 0"):
            write_vectors(again, to, first, **options)
        assert not again.exists()
    else:
        write_vectors(again, to, first, **options)
        assert [v.site.layer for v in read_vectors(again).vectors] == [0]


def test_what_a_vector_file_cannot_say(tiny):
    cases = [
        (build.ablate_direction(tiny, {1: V[1]}), "only say 'add'"),
        (build.add_direction(tiny, {1: V[1]}, unit="relative"), "unit relative"),
        (build.add_direction(tiny, {1: V[1]}, scope=parse_scope("decode")), "has no scope"),
    ]
    for intervention, message in cases:
        with pytest.raises(UsageError, match=message):
            folded(intervention, 1.0)
    moved = folded(build.add_direction(tiny, {1: V[1]}, site=RESID_PRE), 2.0)
    assert list(moved) == [Site(0, RESID_POST)]
    assert place(tiny, Site(0, RESID_POST)).width == len(moved[Site(0, RESID_POST)])


@pytest.mark.parametrize("name", ["a.pt", "old.pt", "a.npy", "a.gguf", "a.svec", "a.safetensors"])
def test_damage_of_any_kind_is_one_line(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save({n: torch.from_numpy(v) for n, v in V.items()}, path, _use_new_zipfile_serialization=name == "a.pt")
    elif name == "a.npy":
        np.save(path, np.stack(list(V.values())))
    else:
        vectors = {Site(n, RESID_POST): v for n, v in V.items() if n}
        to = path.suffix[1:]
        write_vectors(path, to, vectors, model_type="llama", layer_path="layers", metadata={})
    whole, draw, refused = path.read_bytes(), np.random.default_rng(0), 0
    for number in range(200):
        broken = bytearray(whole)
        for at in draw.integers(len(whole) if number % 2 else 120, size=4):
            broken[at] = draw.integers(256)
        path.write_bytes(broken[: draw.integers(len(whole))] if number % 4 == 0 else broken)
        try:
            read_vectors(path, layers=3)
        except (UsageError, IntegrityError):
            refused += 1
    assert refused > 40


def test_layers_that_are_not_there_and_entries_that_contradict_are_refused(tiny, tmp_path):
    path = tmp_path / "direction.pt"
    for tensor, layer, message in (
        (torch.from_numpy(V[1]), -5, "outside the model"),
        (torch.randn(2, 3, 32), -5, "has 3 layers"),
        (torch.randn(2, 3, 32), 3, "has 3 layers"),
    ):
        torch.save(tensor, path)
        (tmp_path / "direction_metadata.json").write_text(json.dumps({"pos": -1, "layer": layer}))
        with pytest.raises(UsageError, match=message):
            interventions_of(tiny, read_vectors(path, layers=3))
    entry = {"hookpoint": "layers.1", "steering_vector": torch.from_numpy(V[1])}
    for content, message in (
        ([entry, {**entry, "steering_vector": torch.from_numpy(V[2])}], "two entries"),
        ({"layers.1": {**entry, "steering_coefficient": None}}, "expected a number"),
    ):
        torch.save(content, path)
        with pytest.raises(UsageError, match=message):
            read_vectors(path)


@pytest.mark.parametrize("dose", [0.0, float("nan"), float("inf")])
def test_a_dose_that_says_nothing_is_not_folded(tiny, dose):
    with pytest.raises(UsageError, match="cannot be folded"):
        folded(build.add_direction(tiny, {1: V[1]}), dose)
