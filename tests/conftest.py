"""Shared fixtures: a real 135M model, tiny random models of many architectures, and one small finished study."""

from __future__ import annotations

import importlib.util
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread per worker, inherited by the programs that tests start
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


@pytest.fixture(scope="session")
def smollm():
    """SmolLM2-135M-Instruct, fetched once; without it, tests that need a real model skip and say so."""
    pytest.importorskip("torch", reason="needs levercheck[lm]")
    from levercheck.errors import MissingError
    from levercheck.lm.model import load_model

    try:
        return load_model("embedded:smollm2-135m")
    except MissingError as error:
        pytest.skip(f"REAL MODEL NOT AVAILABLE: {error}")


ARCHITECTURES = {
    "llama": {"num_key_value_heads": 2, "head_dim": 8},
    "mistral": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6},
    "qwen2": {"num_key_value_heads": 2},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 5.0},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6},
    "gemma3": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6},  # text model inside a multimodal one
    "gpt2": {},
    "gpt_neox": {},
}


@pytest.fixture(scope="session", params=sorted(ARCHITECTURES))
def tiny(request):
    """A random three-layer model of every kind: plain and gated MLPs, GQA, sliding windows, learned positions."""
    torch = pytest.importorskip("torch", reason="needs levercheck[lm]")
    import transformers

    from levercheck.lm.model import LanguageModel

    common = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if request.param == "gpt2":
        common = {
            "vocab_size": 97,
            "n_embd": 32,
            "n_inner": 48,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
    torch.manual_seed(0)
    settings = {**common, **ARCHITECTURES[request.param]}
    if request.param == "gemma3":
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision |= {"image_size": 28, "patch_size": 14}
        settings = {"text_config": settings, "vision_config": vision, "mm_tokens_per_image": 4}
    config = transformers.AutoConfig.for_model(request.param, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.normal_(0, 0.15)  # default initialisation is so small that nothing would depend on anything
    return LanguageModel(request.param, model, None, {})


class SilentReporter:
    """Stages without output."""

    @contextmanager
    def stage(self, title, total, unit):
        yield lambda done: None


def small_spec(**changes):
    """A study small enough for a test, real in every other way."""
    from levercheck.audit.spec import AuditSpec
    from levercheck.demo.spec import DemoSpec

    settings = {
        "questions": 320,
        "role_shares": {"readout": 0.5, "select": 0.2, "confirm": 0.3},
        "samples": 4,
        "c_grid": (0.04, 0.08, 0.16),
        "folds": 3,
        "select_items": 8,
        "confirm_items": 14,
        "random_sets": 2,
        "audit": AuditSpec(null_draws=500),
    }
    return DemoSpec(**{**settings, **changes})


@pytest.fixture(scope="session")
def finished(smollm, tmp_path_factory):
    """A finished small study; tests must copy it before they change it."""
    from levercheck.demo.run import run_demo

    root = tmp_path_factory.mktemp("study") / "run"
    run_demo(small_spec(), root, SilentReporter())
    return root


@pytest.fixture(scope="session")
def data_files():
    """The modules that write self-made benchmark data in their real formats, by name."""

    def load(name):
        path = Path(__file__).parent / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found

    return load
