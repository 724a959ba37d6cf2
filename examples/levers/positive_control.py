"""The positive control of the study: as many neurons as its H-neurons, chosen by their first-order effect.

    python positive_control.py STUDY.yaml RUN_DIR

Effects are measured on the study's select items, which no readout has seen and no lever is judged on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from levercheck.cli.console import Stages
from levercheck.interventions.build import scale_neurons
from levercheck.interventions.files import save_intervention
from levercheck.lm.batches import token_batches
from levercheck.lm.model import load_model
from levercheck.readouts.attribution import ATTRIBUTION_TOKENS, attribution_batch
from levercheck.readouts.readout import load_readout
from levercheck.study.spec import inside, read_study
from levercheck.study.used import write_items
from levercheck.sweep.arms import strongest_arm
from levercheck.sweep.run_study import open_study


def main(study: Path, root: Path) -> None:
    """Choose them, and save them as the readout `gradient` of the study."""
    spec = read_study(study)
    lm = load_model(spec.model)
    root.mkdir(parents=True, exist_ok=True)
    run = open_study(spec, study.parent, root, lm, Stages())
    items = run.items(spec.primary.benchmark, "select")
    prefix, prompts = run.encoded(spec.primary.benchmark, items)
    sequences = [prefix + prompt for prompt in prompts]
    effects = [None] * len(items)
    for batch in token_batches(sequences, ATTRIBUTION_TOKENS):
        pairs = [items[i].tokens[:2] for i in batch]
        for i, effect in zip(batch, attribution_batch(lm, [sequences[i] for i in batch], pairs), strict=True):
            effects[i] = effect.numpy()
    count = len(load_readout(inside(study.parent, spec.readouts["neurons"])).neurons)
    chosen = strongest_arm(np.stack(effects), count).neurons
    folder = inside(study.parent, spec.readouts["gradient"])
    save_intervention(scale_neurons(lm, chosen), folder, model=lm.identity)
    write_items(folder, [item.id for item in items], [item.cluster for item in items])
    print(f"{count} neurons by their effect on {len(items)} select items: {folder.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
