"""From published arrays to the plain form: what every reader of a format shares.

A reader hands over arrays by their plain names, in the layout of `Sae` ([width, latents] encoder, [latents, width]
decoder), and says how its library computes with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from levercheck.errors import UsageError
from levercheck.lm.places import Site
from levercheck.lm.saes.sae import Floats, Kind, Sae

Arrays = dict[str, Floats]


def float32(array: Any) -> Floats:
    """Any numeric numpy array or tensor as a contiguous float32 array of its own."""
    if isinstance(array, torch.Tensor):
        array = array.detach().to("cpu", torch.float32).numpy()
    return np.array(array, dtype=np.float32, order="C")


def renamed(found: Mapping[str, Any], names: Mapping[str, str], what: str) -> Arrays:
    """The arrays called by the values of `names`, under its keys; one that is missing is a UsageError."""
    missing = [theirs for theirs in names.values() if theirs not in found]
    if missing:
        raise UsageError(
            f"{what} has no array '{missing[0]}', expected {', '.join(names.values())}; found {_listed(found)}: give "
            "the folder of a complete dictionary"
        )
    return {ours: float32(found[theirs]) for ours, theirs in names.items()}


def transposed(arrays: Arrays, names: Sequence[str]) -> Arrays:
    """Arrays with those matrices turned round, for libraries that store them as linear layers."""
    for name in names:
        if arrays[name].ndim != 2:
            raise UsageError(f"{name} of a dictionary has shape {list(arrays[name].shape)}, expected two dimensions")
    return {name: np.ascontiguousarray(a.T) if name in names else a for name, a in arrays.items()}


def folded_norms(arrays: Arrays) -> Arrays:
    """The same dictionary with decoder rows of length 1 and activations that carry the length.

    Latents whose decoder row is zero write nothing and stay as they are.
    """
    norms = np.linalg.norm(arrays["w_dec"].astype(np.float64), axis=1)
    norms = np.where(norms > 0, norms, 1.0).astype(np.float32)
    out = {**arrays, "w_enc": arrays["w_enc"] * norms, "b_enc": arrays["b_enc"] * norms}
    out["w_dec"] = arrays["w_dec"] / norms[:, None]
    if "threshold" in arrays:
        out["threshold"] = arrays["threshold"] * norms
    return out


def plain(
    arrays: Arrays,
    site: Site,
    kind: Kind,
    facts: dict[str, Any],
    *,
    centred: bool,
    k: int | None = None,
    width: int | None = None,
    scale: float = 1.0,
) -> Sae:
    """The dictionary; a single threshold is given to every latent. `width` is what the format's own settings state."""
    if arrays["w_enc"].ndim != 2:
        raise UsageError(f"w_enc of a dictionary has shape {list(arrays['w_enc'].shape)}, expected [width, latents]")
    if width is not None and arrays["w_enc"].shape[0] != width:
        raise UsageError(
            f"the dictionary is {arrays['w_enc'].shape[0]} wide, its settings state {width}: get its files again"
        )
    if kind == "jumprelu" and arrays["threshold"].size == 1:
        arrays = {**arrays, "threshold": np.full(arrays["w_enc"].shape[1], arrays["threshold"].item(), np.float32)}
    return Sae(site, kind, **arrays, k=k, centred=centred, scale=scale, facts=facts)


def chosen_site(stated: Site | None, given: Site | None, what: str, *, certain: bool = True) -> Site:
    """The site a format states, or else the one the user gave; a contradiction with certain knowledge is a UsageError.

    certain: settings say so, not merely a folder's name.
    """
    if given is not None and stated is not None and certain and given != stated:
        raise UsageError(f"{what} is for {stated}, got {given}: leave the site out")
    site = given or stated
    if site is None:
        raise UsageError(f"{what} does not say which site it is for: give one, e.g. L14.resid.post")
    return site


def refuse_transcoder(what: str, inside: object, outside: object) -> None:
    """UsageError when a dictionary reads one site and reconstructs another."""
    if outside is not None and inside != outside:
        raise UsageError(f"{what} reads {inside} and writes {outside}: it is a transcoder, expected an autoencoder")


def _listed(found: Mapping[str, Any]) -> str:
    names = sorted(found)
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "none"
