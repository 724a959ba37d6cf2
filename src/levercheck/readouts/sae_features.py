"""A classifier over dictionary features as a readout: which latents, on average over an answer, tell the label.

Features are mean latent activations over each example's region, standardised by the examples to fit on; the classifier
is the L1 logistic regression of the neurons readout. C is chosen on folds of the part to fit on, AUROC is of the
held-out part. Latents that are on in fewer than `MIN_ON` examples to fit on are left out: standardised, they would be
names of single examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from levercheck.audit.choice import choose_c, fold_aurocs
from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError
from levercheck.lm.activations import per_token
from levercheck.lm.model import LanguageModel
from levercheck.lm.saes.formats import load_sae, sae_folder
from levercheck.lm.saes.sae import Sae
from levercheck.lm.saes.stored import FACTS, TENSORS, save_sae
from levercheck.readouts.artifact import Artifact, load_artifact
from levercheck.readouts.contrast import Bools, Split, Tokens
from levercheck.readouts.probe import fit_probe, out_of_fold
from levercheck.readouts.sae_preflight import check_width
from levercheck.readouts.separation import area, clusters_of
from levercheck.stats import Estimate

FOLDER = "sae"
GRID = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
MIN_ON = 5
_CELLS = 1 << 24  # latent activations held at once
Features = np.ndarray[Any, np.dtype[np.float32]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class SaeFit:
    """Latents with a weight, ascending: int64 [k]; weights are per standard deviation, float64 [k], towards label 1."""

    latents: np.ndarray[Any, np.dtype[np.int64]]
    weights: Floats
    mean: Floats
    deviation: Floats
    intercept: float
    c: float
    kkt_residual: float
    folds: list[dict[str, float]]  # mean fold AUROC at every C
    auroc: Estimate  # held out
    candidates: int  # latents that were on often enough

    def score(self, features: Features) -> Floats:
        """Log-odds of label 1, float64 [examples], of features [examples, latents]."""
        picked = features[:, self.latents].astype(np.float64)
        scores: Floats = (picked - self.mean) / self.deviation @ self.weights + self.intercept
        return scores


@torch.inference_mode()
def latent_means(
    lm: LanguageModel, sae: Sae, tokens: Tokens, tick: Callable[[int], None] = lambda rows: None
) -> Features:
    """Mean activation of every latent over each example's region, float32 [examples, latents]."""
    check_width(lm, sae)
    x = per_token(lm, tokens.sequences, sae.site, tokens.regions, tick=tick)
    if not torch.isfinite(x).all():
        raise UsageError(f"activations at {sae.site} are not finite: load the model in float32 or bfloat16")
    sizes = torch.tensor([stop - start for start, stop in tokens.regions])
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    out = torch.zeros(len(sizes), sae.latents)
    step = max(1, _CELLS // sae.latents)
    for start in range(0, len(x), step):
        piece = slice(start, start + step)
        out.index_add_(0, owner[piece], sae.encode(x[piece].to(lm.device)).cpu())
    means: Features = (out / sizes[:, None]).numpy()
    return means


def fit_latents(
    features: Features,
    labels: Bools,
    groups: Sequence[str],
    parts: Split,
    *,
    cs: Sequence[float] = GRID,
) -> SaeFit:
    """Fit on features [examples, latents]. Raises NotEnoughDataError where no latent tells the labels apart."""
    fit, held = parts.fit, ~parts.fit
    often = np.flatnonzero((features[fit] > 0).sum(0) >= MIN_ON)
    if not len(often):
        raise NotEnoughDataError(
            f"no latent is on in {MIN_ON} of {int(fit.sum())} examples to fit on: give more examples, or another "
            "dictionary"
        )
    grid = sorted(set(cs))
    x, y = np.ascontiguousarray(features[:, often])[:, None], labels.astype(np.float64)
    cv = out_of_fold(x, y, parts.folds, grid, rows=fit)
    by_fold = fold_aurocs(cv.scores, y[fit], parts.folds[fit])
    c = choose_c(grid, by_fold)
    probe = fit_probe(x, y, [value for value in grid if value <= c], rows=fit)
    chosen = np.flatnonzero(probe.weights[0])
    if not len(chosen):
        raise NotEnoughDataError(
            f"no latent got a weight at C = {c:g}, the best of {len(grid)} on the folds: nothing here tells the labels "
            "apart; give more examples, a larger --C or another dictionary"
        )
    clusters = clusters_of([group for group, out in zip(groups, held, strict=True) if out])
    return SaeFit(
        latents=often[chosen].astype(np.int64),
        weights=probe.weights[0][chosen],
        mean=probe.scaling.mean[chosen],
        deviation=probe.scaling.deviation[chosen],
        intercept=probe.intercept,
        c=c,
        kkt_residual=probe.kkt_residual,
        folds=[{"c": float(v), "auroc": float(a.mean())} for v, a in zip(grid, by_fold, strict=True)],
        auroc=area(probe.score(x, np.flatnonzero(held)), labels[held], clusters),
        candidates=len(often),
    )


def sae_artifact(found: SaeFit, sae: Sae, facts: dict[str, Any]) -> Artifact:
    """The readout of a fit; `facts` must hold the model's identity under "model".

    Beside latents and weights it holds mean and deviation float64 [k]; the intercept stands in the facts.
    """
    arrays = {"latents": found.latents, "weights": found.weights, "mean": found.mean, "deviation": found.deviation}
    more = {
        "sae": sae.fingerprint,
        "site": str(sae.site),
        "C": found.c,
        "C_is_the_largest_tried": found.c == found.folds[-1]["c"],
        "c_grid": found.folds,
        "kkt_residual": found.kkt_residual,
        "intercept": found.intercept,
        "candidates": found.candidates,
        "latents": sae.latents,
        "positive": int((found.weights > 0).sum()),
        "estimates": {"auroc": found.auroc.to_dict()},
    }
    return Artifact("sae", arrays, {**facts, **more})


def keep_dictionary(sae: Sae, folder: Path) -> list[Path]:
    """Store the dictionary in `sae/` of a readout's folder; the same one may lie there from an interrupted fit."""
    inside = folder / FOLDER
    if sae_folder(inside) is None:
        return save_sae(sae, inside)
    if load_sae(inside).fingerprint != sae.fingerprint:
        raise UsageError(f"'{inside}' holds another dictionary: give --out a new folder")
    return [inside / TENSORS, inside / FACTS]


def load_sae_readout(folder: Path) -> tuple[Artifact, Sae]:
    """A readout of family sae and the dictionary beside it; another dictionary than it was fitted on is refused."""
    folder = folder.parent if folder.is_file() else folder
    artifact = load_artifact(folder)
    if artifact.family != "sae":
        raise UsageError(f"'{folder}' holds a readout of family {artifact.family}, expected sae")
    if not (folder / FOLDER).is_dir():
        raise IntegrityError(f"'{folder.name}' has no dictionary in {FOLDER}/: restore it")
    sae = load_sae(folder / FOLDER)
    if artifact.facts.get("sae") != sae.fingerprint:
        raise IntegrityError(
            f"the dictionary in {FOLDER}/ of '{folder.name}' is not the one it was fitted on: restore it"
        )
    latents = artifact.arrays["latents"]
    if len(latents) and not (latents.min() >= 0 and latents.max() < sae.latents):
        raise IntegrityError(
            f"latents of '{folder.name}' lie outside the {sae.latents} of its dictionary: restore both"
        )
    return artifact, sae
