"""Does a readout write along a given direction, such as refusal? Geometry only: nothing is run but question prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from levercheck.detect.capture import check_model
from levercheck.detect.prompting import from_identity
from levercheck.detect.workspace import Workspace
from levercheck.errors import UsageError
from levercheck.evidence import schema
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.splits import shuffled
from levercheck.interventions.controls import layer_matched
from levercheck.lm.model import LanguageModel
from levercheck.readouts.geometry import mean_activations, overlap, read_direction
from levercheck.readouts.readout import Readout

SETS = 200
PROMPTS = 100


def direction_overlap(
    ws: Workspace, lm: LanguageModel, readout: Readout, name: str, direction: Path, *, sets: int = SETS, seed: int = 0
) -> dict[str, Any]:
    """Compare the readout's write-out with a direction, beside layer-matched random sets; returns the results.

    Write vectors are weighted by the readout's weights and by each neuron's mean signed activation at the end of up to
    100 test prompts, drawn by the seed. `direction` is .safetensors or .npy, [hidden] or [layers, hidden].
    """
    check_model(ws, lm)
    if not direction.is_file():
        raise UsageError(f"no file '{direction.name}', expected a direction as .safetensors or .npy")
    hidden = int(lm.sites[0].write.shape[0])
    vectors = read_direction(direction, hidden, lm.shape[0])
    digest = file_digest(direction)
    settings = {
        "direction": direction.name,
        "sha256": digest,
        "sets": sets,
        "seed": seed,
        "prompts": PROMPTS,
        "prompts_by": "seed",
        "readout": readout.fingerprint,
        "model": lm.identity,
    }

    def measure() -> dict[str, Any]:
        prompting = from_identity(ws.settings("answers")["prompting"])
        asked = dict(ws.rows("questions").select("item_id", "question").iter_rows())
        questions = [asked[item] for item in drawn(ws.rows("split"), seed)]
        shared = prompting.shared(lm)
        activation = mean_activations(lm, [[*shared, *prompting.own(lm, q)] for q in questions])
        weights = [weight for weight in readout.weights.tolist() if weight > 0]
        controls = layer_matched(readout.neurons, readout.shape[1], exclude=readout.components, draws=sets, seed=seed)
        found = overlap(lm, readout.neurons, vectors, controls, weights=weights, activation=activation)
        return {"direction": direction.name, "prompts": len(questions), **found}

    unit = f"probes/{name}/overlap-{digest[:12]}"
    ws.compute(
        unit,
        settings,
        ["questions", "answers", "split", f"probes/{name}"],
        schema.SETS,
        ["condition", "layer", "index"],
        title="compare direction",
        batches=[None],
        rows=len(readout.neurons),
        work=lambda _: [
            {"condition": "readout", "control_seed": None, "layer": layer, "index": index}
            for layer, index in readout.neurons
        ],
        summarise=lambda _: measure(),
    )
    return ws.results(unit)


def drawn(split: pl.DataFrame, seed: int) -> list[str]:
    """Ids of up to PROMPTS test items, drawn by the seed, sorted."""
    test = split.filter(pl.col("role") == "test")["item_id"].to_list()
    return sorted(shuffled(test, seed, "overlap")[:PROMPTS])
