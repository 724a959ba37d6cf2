"""Dictionaries of every format give the forward pass of the library that wrote them, by that library's formula."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")
from safetensors.torch import save_file  # noqa: E402

from levercheck.errors import IntegrityError, MissingError, UsageError  # noqa: E402
from levercheck.lm.places import Site, parse_site  # noqa: E402
from levercheck.lm.saes import source as sources  # noqa: E402
from levercheck.lm.saes.formats import FORMATS, load_sae, sae_folder  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.lm.saes.stored import save_sae  # noqa: E402

WIDTH, LATENTS, K = 6, 20, 4
RNG = np.random.default_rng(3)
W_ENC = torch.tensor(RNG.normal(0, 0.5, (WIDTH, LATENTS)), dtype=torch.float32)
W_DEC = torch.tensor(RNG.normal(0, 0.5, (LATENTS, WIDTH)), dtype=torch.float32)
B_ENC = torch.tensor(RNG.normal(0, 0.3, LATENTS), dtype=torch.float32)
B_DEC = torch.tensor(RNG.normal(0, 0.7, WIDTH), dtype=torch.float32)
THRESHOLD = torch.tensor(RNG.uniform(-0.1, 0.8, LATENTS), dtype=torch.float32)  # some below 0, as published files have
X = torch.tensor(RNG.normal(0, 2, (50, WIDTH)), dtype=torch.float32)
NORMS = W_DEC.norm(dim=1)


def top(values):
    found = values.topk(K, dim=-1)
    return torch.zeros_like(values).scatter(-1, found.indices, found.values)


def jump(pre, threshold=THRESHOLD):
    return pre.relu() * (pre > threshold)


def write(folder, config=None, name="cfg.json", tensors=None, file=None):
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / name).write_text(json.dumps(config))
    if file is not None:
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / file)
    return folder


UPPER = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}


def gemma_scope(tmp_path):
    folder = write(tmp_path / "gemma-scope-2b-pt-mlp" / "layer_20" / "width_16k" / "average_l0_71")
    np.savez(folder / "params.npz", **{k: v.numpy() for k, v in UPPER.items()}, threshold=THRESHOLD.numpy())
    latent = jump(X @ W_ENC + B_ENC)
    return folder, "L20.mlp.out", latent, latent @ W_DEC + B_DEC


def gemma_scope_2(tmp_path):
    hook = "model.layers.11.self_attn.o_proj.input"
    config = {"hf_hook_point_in": hook, "hf_hook_point_out": hook, "width": LATENTS, "type": "sae", "l0": 7}
    config |= {"model_name": "google/gemma-3-1b-pt", "architecture": "jump_relu", "affine_connection": False}
    tensors = {k.lower(): v for k, v in UPPER.items()} | {"threshold": THRESHOLD}
    folder = write(tmp_path / "attn_out" / "layer_11_width_16k", config, "config.json", tensors, "params.safetensors")
    latent = jump(X @ W_ENC + B_ENC)
    return folder, "L11.attn.o_proj.input", latent, latent @ W_DEC + B_DEC


def saelens(tmp_path, config, extra=None):
    settings = {"d_in": WIDTH, "d_sae": LATENTS, "dtype": "float32", "normalize_activations": "none", **config}
    return write(tmp_path / "sae", settings, "cfg.json", {**UPPER, **(extra or {})}, "sae_weights.safetensors")


def saelens_standard(tmp_path):
    config = {"architecture": "standard", "hook_name": "blocks.3.hook_resid_pre", "activation_fn_str": "relu"}
    latent = ((X - B_DEC) @ W_ENC + B_ENC).relu()  # apply_b_dec_to_input is true where it is not said
    return saelens(tmp_path, config), "L3.resid.pre", latent, latent @ W_DEC + B_DEC


def saelens_first(tmp_path):
    config = {"hook_point": "blocks.3.hook_resid_post", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    config["finetuning_scaling_factor"] = True
    factor = torch.linspace(0.5, 1.5, LATENTS)
    latent = top((X - B_DEC) @ W_ENC + B_ENC).relu()
    return (
        saelens(tmp_path, config, {"scaling_factor": factor}),
        "L3.resid.post",
        latent,
        (latent * factor) @ W_DEC + B_DEC,
    )


def saelens_jumprelu(tmp_path):
    config = {
        "architecture": "jumprelu",
        "apply_b_dec_to_input": False,
        "metadata": {"hook_name": "blocks.3.hook_mlp_out"},
    }
    latent = jump(X @ W_ENC + B_ENC)
    return saelens(tmp_path, config, {"threshold": THRESHOLD}), "L3.mlp.out", latent, latent @ W_DEC + B_DEC


def saelens_topk(tmp_path):
    config = {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": True}
    config["metadata"] = {"hook_name": "blocks.3.attn.hook_z", "model_name": "gpt2"}
    latent = top(((X - B_DEC) @ W_ENC + B_ENC) * NORMS).relu()
    return saelens(tmp_path, config), "L3.attn.o_proj.input", latent, (latent / NORMS) @ W_DEC + B_DEC


def sparsify(tmp_path):
    config = {"activation": "topk", "expansion_factor": 32, "k": K, "transcode": False, "d_in": WIDTH}
    tensors = {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}
    folder = write(tmp_path / "layers.10.mlp", config, "cfg.json", tensors, "sae.safetensors")
    latent = top(torch.nn.functional.linear(X - B_DEC, W_ENC.T, B_ENC).relu())
    return folder, "L10.mlp.out", latent, latent @ W_DEC + B_DEC


def dictionary_learning(tmp_path, name, state, layer=8):
    trainer = {"dict_class": name, "layer": layer, "activation_dim": WIDTH, "k": K}
    trainer["submodule_name"] = f"resid_post_layer_{layer}"
    folder = write(tmp_path / "trainer_0", {"trainer": trainer, "buffer": {"io": "out"}}, "config.json")
    torch.save(state, folder / "ae.pt")
    return folder


LINEAR = {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "decoder.weight": W_DEC.T}


def dl_plain(tmp_path):
    latent = torch.nn.functional.linear(X - B_DEC, W_ENC.T, B_ENC).relu()
    folder = dictionary_learning(tmp_path, "AutoEncoder", {**LINEAR, "bias": B_DEC})
    return folder, "L8.resid.post", latent, latent @ W_DEC + B_DEC


def dl_new(tmp_path):
    latent = torch.nn.functional.linear(X, W_ENC.T, B_ENC).relu()
    folder = dictionary_learning(tmp_path, "AutoEncoderNew", {**LINEAR, "decoder.bias": B_DEC})
    return folder, "L8.resid.post", latent, latent @ W_DEC + B_DEC


def dl_topk(tmp_path):
    latent = top(torch.nn.functional.linear(X - B_DEC, W_ENC.T, B_ENC).relu())
    state = {**LINEAR, "b_dec": B_DEC, "k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(-1.0)}
    return dictionary_learning(tmp_path, "AutoEncoderTopK", state), "L8.resid.post", latent, latent @ W_DEC + B_DEC


def dl_batch_topk(tmp_path):
    latent = torch.nn.functional.linear(X - B_DEC, W_ENC.T, B_ENC).relu()
    latent = latent * (latent > 0.4)
    state = {**LINEAR, "b_dec": B_DEC, "k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.4)}
    return dictionary_learning(tmp_path, "BatchTopKSAE", state), "L8.resid.post", latent, latent @ W_DEC + B_DEC


def dl_matryoshka(tmp_path):
    latent = ((X - B_DEC) @ W_ENC + B_ENC).relu()
    latent = latent * (latent > 0.4)
    state = {**UPPER, "k": torch.tensor(K), "threshold": torch.tensor(0.4), "group_sizes": torch.tensor([5, 15])}
    folder = dictionary_learning(tmp_path, "MatryoshkaBatchTopKSAE", state)
    return folder, "L8.resid.post", latent, latent @ W_DEC + B_DEC


def dl_jumprelu(tmp_path):
    pre = X @ W_ENC + B_ENC
    latent = (pre * (pre > THRESHOLD)).relu() * NORMS
    folder = dictionary_learning(tmp_path, "JumpReluAutoEncoder", {**UPPER, "threshold": THRESHOLD})
    return folder, "L8.resid.post", latent, (latent / NORMS) @ W_DEC + B_DEC


WRITERS = [gemma_scope, gemma_scope_2, saelens_standard, saelens_first, saelens_jumprelu, saelens_topk, sparsify,
           dl_plain, dl_new, dl_topk, dl_batch_topk, dl_matryoshka, dl_jumprelu]  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_forward_passes_are_the_library_s_own(tmp_path, writer):
    folder, site, latent, out = writer(tmp_path)
    sae = load_sae(folder)
    assert str(sae.site) == site
    found = sae.encode(X)
    assert 0 < (latent > 0).float().mean() < 1  # the activation function does something
    if writer is not saelens_first:  # a finetuning factor may sit on either side of the latents
        torch.testing.assert_close(found, latent, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sae.decode(found), out, rtol=1e-5, atol=1e-5)
    some = torch.tensor([0, 3, 19])
    torch.testing.assert_close(sae.encode_some(X, some), found[:, some])
    assert sae.facts["format"] in FORMATS.names()
    assert all(len(digest) == 64 for digest in sae.facts["sha256"].values())

    saved = tmp_path / "ours"
    save_sae(sae, saved)
    again = load_sae(saved)
    assert again.fingerprint == sae.fingerprint
    assert again.facts == sae.facts
    torch.testing.assert_close(again.decode(again.encode(X)), sae.decode(found), rtol=0, atol=0)
    assert sae_folder(saved) == "levercheck"


def test_half_precision_files(tmp_path):
    folder, *_ = saelens_jumprelu(tmp_path)
    tensors = {**UPPER, "threshold": THRESHOLD}
    save_file({k: v.bfloat16() for k, v in tensors.items()}, folder / "sae_weights.safetensors")
    latent = jump(X @ W_ENC.bfloat16().float() + B_ENC.bfloat16().float(), THRESHOLD.bfloat16().float())
    torch.testing.assert_close(load_sae(folder).encode(X), latent)


def test_scale_and_centre():
    sae = Sae(Site(0, "resid.post"), "standard", W_ENC.numpy(), B_ENC.numpy(), W_DEC.numpy(), B_DEC.numpy(),
              centred=True, scale=3.0)  # fmt: skip
    latent = ((3 * X - B_DEC) @ W_ENC + B_ENC).relu()
    torch.testing.assert_close(sae.encode(X), latent)
    torch.testing.assert_close(sae.decode(latent), (latent @ W_DEC + B_DEC) / 3)


def test_ties_leave_exactly_k():
    eye = np.eye(WIDTH, dtype=np.float32)
    zeros = np.zeros(WIDTH, np.float32)
    sae = Sae(Site(0, "resid.post"), "topk", eye, zeros, eye, zeros, k=3)
    x = torch.tensor([[2.0, 2, 2, 2, 2, 2], [1, 5, 1, 1, 1, 0], [-1, -1, 4, -1, -1, -1], [0, 0, 0, 0, 0, 0]])
    latent = sae.encode(x)
    assert (latent > 0).sum(1).tolist() == [3, 3, 1, 0]
    assert latent[1].sum() == 7
    assert torch.equal(latent, sae.encode(x))
    assert torch.equal(sae.encode_some(x, torch.arange(WIDTH)), latent)


def refused(call, *words, kind=UsageError):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_sites_from_names_and_contradictions(tmp_path):
    folder, *_ = gemma_scope(tmp_path)
    assert str(load_sae(folder / "params.npz").site) == "L20.mlp.out"
    assert str(load_sae(folder, "blocks.4.hook_resid_post").site) == "L4.resid.post"  # a name is no certain knowledge
    (folder / "params.npz").rename(tmp_path / "params.npz")
    refused(lambda: load_sae(tmp_path), "which site", "L14.resid.post")
    assert load_sae(tmp_path, "L1.resid.post").site == parse_site("L1.resid.post")
    stated, *_ = saelens_standard(tmp_path)
    refused(lambda: load_sae(stated, "L4.resid.pre"), "L3.resid.pre", "L4.resid.pre")
    odd = saelens(tmp_path / "odd", {"hook_name": "blocks.3.hook_mlp_in"})
    refused(lambda: load_sae(odd), "hook_mlp_in")
    assert load_sae(odd, "L3.resid.pre").site.layer == 3


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"normalize_activations": "layer_norm"}, "every token"),
        ({"normalize_activations": "expected_average_only_in"}, "fold_activation_norm"),
        ({"normalize_activations": True}, "fold_activation_norm"),
        ({"architecture": "gated"}, "gated"),
        ({"architecture": "skip_transcoder"}, "skip_transcoder"),
        ({"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}, "transcoder"),
        ({"activation_fn_str": "tanh-relu"}, "tanh-relu"),
        ({"architecture": "topk"}, "k = None"),
        ({"architecture": "jumprelu"}, "threshold"),
        ({"d_in": 99}, "99"),
        ({"hook_head_index": 2}, "head 2"),
    ],
)  # fmt: skip
def test_saelens_settings_that_do_not_fit(tmp_path, config, words):
    folder = saelens(tmp_path, {"hook_name": "blocks.1.hook_resid_post", **config})
    refused(lambda: load_sae(folder), words)


def test_other_formats_that_do_not_fit(tmp_path):
    folder, *_ = gemma_scope_2(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, word in [
        ({"hf_hook_point_out": "model.layers.11.output"}, "transcoder"),
        ({"type": "crosscoder"}, "cros"),
    ]:
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        refused(lambda: load_sae(folder), word)
    folder, *_ = sparsify(tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    for change, word in [({"transcode": True}, "transcoder"), ({"signed": True}, "signed"), ({"k": None}, "k = None"),
                         ({"activation": "groupmax"}, "groupmax")]:  # fmt: skip
        (folder / "cfg.json").write_text(json.dumps({**config, **change}))
        refused(lambda: load_sae(folder), word)
    folder, *_ = dl_topk(tmp_path)
    refused(lambda: load_sae(folder, "L9.resid.post"), "L8.resid.post")
    config = json.loads((folder / "config.json").read_text())
    config["trainer"]["dict_class"] = "GatedAutoEncoder"
    (folder / "config.json").write_text(json.dumps(config))
    refused(lambda: load_sae(folder), "GatedAutoEncoder")
    (folder / "config.json").unlink()
    refused(lambda: load_sae(folder, "L8.resid.post"), "no class")


class Harmful:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_objects_are_never_unpickled(tmp_path, capsys):
    folder, *_ = dl_plain(tmp_path)
    torch.save({"encoder.weight": Harmful()}, folder / "ae.pt")
    refused(lambda: load_sae(folder), "never unpickled", kind=IntegrityError)
    np.savez(tmp_path / "params.npz", W_enc=np.array([Harmful()], dtype=object))
    refused(lambda: load_sae(tmp_path, "L1.resid.post"), "cannot be read", kind=IntegrityError)
    assert capsys.readouterr().out == ""


def test_damage_and_numbers_that_are_not_finite(tmp_path):
    folder, *_ = saelens_jumprelu(tmp_path)
    broken = {**UPPER, "threshold": THRESHOLD.clone().index_fill_(0, torch.tensor([2]), float("nan"))}
    save_file(broken, folder / "sae_weights.safetensors")
    refused(lambda: load_sae(folder), "threshold", "not finite")
    save_file({**UPPER, "threshold": THRESHOLD, "b_enc": B_ENC[:-1].clone()}, folder / "sae_weights.safetensors")
    refused(lambda: load_sae(folder), "b_enc", "[20]")
    (folder / "sae_weights.safetensors").write_bytes(b"short")
    refused(lambda: load_sae(folder), "cannot be read", kind=IntegrityError)
    (folder / "cfg.json").write_text("{")
    refused(lambda: load_sae(folder), "cfg.json", kind=IntegrityError)

    whole, *_ = gemma_scope(tmp_path)
    save_sae(load_sae(whole), tmp_path / "ours")
    refused(lambda: save_sae(load_sae(whole), tmp_path / "ours"), "already")
    tensors = tmp_path / "ours" / "dictionary.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    refused(lambda: load_sae(tmp_path / "ours"), "does not match", kind=IntegrityError)


def test_folders_without_a_dictionary(tmp_path):
    refused(lambda: load_sae(tmp_path), "known format", "params.npz")
    refused(lambda: load_sae(tmp_path / "nowhere"), "no folder")
    assert sae_folder(tmp_path) is None
    assert sae_folder(tmp_path / "nowhere") is None


def test_hub_specs(tmp_path, monkeypatch):
    refused(lambda: load_sae("hf:onlyowner"), "hf:owner/repo:folder")
    refused(lambda: load_sae("hf:a/b:../c"), "hf:owner/repo:folder")
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder, _, latent, _ = gemma_scope(tmp_path)
    monkeypatch.setattr(sources, "_options", lambda repo: {"revision": "a" * 40})
    asked = []

    def serve(repo, name, revision):
        asked.append((repo, name, revision))
        place = folder / name.rpartition("/")[2]
        if not place.is_file():
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(place)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", serve)
    sae = load_sae("hf:google/gemma-scope-2b-pt-mlp:layer_20/width_16k/average_l0_71")
    assert str(sae.site) == "L20.mlp.out"
    torch.testing.assert_close(sae.encode(X), latent)
    assert sae.facts["revision"] == "a" * 40
    wanted = ("google/gemma-scope-2b-pt-mlp", "layer_20/width_16k/average_l0_71/params.npz", "a" * 40)
    assert wanted in asked

    def silent(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", silent)
    refused(lambda: load_sae("hf:google/x:y"), "could not be fetched", "network", kind=MissingError)
