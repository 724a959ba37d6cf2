"""What responses look like under a lever, beside the score: outcomes, options, length, churn, flips.

A score can move for reasons that are no effect on its construct: more responses that cannot be parsed, an option that
is chosen whatever is asked, loops, silence, cut responses. Every lever's own arms are described; draws of controls are
not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.lever_tables import BASELINE, NOOP
from levercheck.audit.rates import rate
from levercheck.stats import mcnemar, mean, sign_flip

LABELS = 12
"""Most distinct values of a distribution: beyond it, `chosen` is free text and no option."""
SCREENS = ("refused", "hedged")
ATTEMPTED = ("right", "wrong")
KEYS = ("lever", "dose", "effort")


def responses(rows: pl.DataFrame, benchmark: str, level: float = 0.95) -> list[dict[str, Any]]:
    """One record per own arm of every lever, the baseline first. Shares are in per cent of the arm's items."""
    own = rows.filter((pl.col("benchmark") == benchmark) & pl.col("control").is_null() & (pl.col("lever") != NOOP))
    base = own.filter(pl.col("lever") == BASELINE).sort("item_id")
    if base["outcome"].is_null().all():
        return []
    labels = _values(own, "outcome")
    options = _values(own, "chosen") if _is_options(own) else []
    rules, strata = _values(own, "how"), _values(own, "stratum")
    strata = strata if 1 < len(strata) <= LABELS else []
    found = []
    weaker: dict[str, pl.DataFrame] = {}
    names = list(dict.fromkeys(own["lever"]))
    groups = list(own.group_by(list(KEYS), maintain_order=True))
    groups.sort(key=lambda one: (names.index(one[0][0]), one[0][2] or 0.0, one[0][1] or 0.0))
    for key, group in groups:
        arm = group.sort("item_id")
        record: dict[str, Any] = {"benchmark": benchmark, **dict(zip(KEYS, key, strict=True)), "n": len(arm)}
        record["outcomes"] = {label: _share(arm, pl.col("outcome") == label, level) for label in labels}
        record["options"] = {label: _share(arm, pl.col("chosen") == label, level) for label in options}
        record["strata"] = {name: _rate_of(arm, name, level) for name in strata}
        record["rules"] = {label: int((arm["how"] == label).sum()) for label in rules if label != "none"}
        record |= _attempts(arm, level)
        if arm["text"].is_not_null().any():
            record |= _texts(arm, base, level)
            if key[0] in weaker:
                record["churn_step"] = _churn(arm, weaker[key[0]], level)
            weaker[key[0]] = arm
        if key[0] != BASELINE:
            record["changes"] = _changes(arm, base, level)
        found.append(record)
    return sorted(found, key=lambda one: one["lever"] != BASELINE)


def flips(rows: pl.DataFrame, benchmark: str, better: str | None = None) -> list[dict[str, Any]]:
    """Items with a score of 0 or 1 at baseline and another, or none, under a lever: both responses and, of losses, how.

    `mode` is a lexical suggestion for a person to correct: `silence` (no verdict), `refusal` (declined or not
    attempted), `denial` (the answer given before is named and negated), `dilution` (it is named, among others or
    hedged), `substitution` (another answer stands in its place).
    """
    own = rows.filter((pl.col("benchmark") == benchmark) & pl.col("control").is_null() & pl.col("lever").ne(NOOP))
    base = {r["item_id"]: r for r in own.filter(pl.col("lever") == BASELINE).iter_rows(named=True)}
    found = []
    for row in own.filter(pl.col("lever") != BASELINE).sort(*KEYS, "item_id", nulls_last=False).iter_rows(named=True):
        before = base[row["item_id"]]
        if before["score"] not in (0.0, 1.0) or row["score"] == before["score"]:
            continue
        lost = before["score"] == (0.0 if better == "lower" else 1.0)
        found.append(
            {
                "benchmark": benchmark,
                **{name: row[name] for name in KEYS},
                "item_id": row["item_id"],
                "from": before["outcome"],
                "to": row["outcome"],
                "mode": mode(before, row) if lost else None,
                "before": before["text"],
                "after": row["text"],
            }
        )
    return found


def mode(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """How a score of 1 was lost; see `flips`."""
    if after["outcome"] in ("empty", "degenerate", "truncated", "broken", "unparsed"):
        return "silence"
    if after["refused"] or after["outcome"] in ("refused", "not_attempted"):
        return "refusal"
    text, answer = f" {_words(after['text'])} ", _words(before["chosen"])
    if answer and f" {answer} " in text:
        ahead = text.partition(f" {answer} ")[0].split()[-3:]
        return "denial" if {"not", "never", "no", "isn", "wasn", "t"} & set(ahead) else "dilution"
    return "dilution" if after["outcome"] == "ambiguous" else "substitution"


def _words(text: str | None) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in (text or "").casefold()).split())


def _values(rows: pl.DataFrame, column: str) -> list[str]:
    return sorted(rows[column].drop_nulls().unique().to_list())


def _is_options(rows: pl.DataFrame) -> bool:
    """Whether `chosen` names options rather than accepted answers."""
    chosen = _values(rows, "chosen")
    return 0 < len(chosen) <= LABELS and all(len(name) <= 2 for name in chosen) and any(map(str.isalpha, chosen))


def _share(arm: pl.DataFrame, wanted: pl.Expr, level: float) -> dict[str, Any]:
    hit = arm.select(wanted.fill_null(False))[:, 0].to_numpy().astype(bool)
    return rate(hit, arm["cluster_id"].to_numpy(), level).to_dict()


def _rate_of(arm: pl.DataFrame, stratum: str, level: float) -> dict[str, Any] | None:
    """Mean score of one stratum's items that have one, in per cent; None where none has."""
    own = arm.filter((pl.col("stratum") == stratum) & pl.col("score").is_not_null())
    if own.is_empty():
        return None
    scores, clusters = own["score"].to_numpy(), own["cluster_id"].to_numpy()
    if np.isin(scores, (0.0, 1.0)).all():
        return rate(scores.astype(bool), clusters, level).to_dict()
    return mean(scores, clusters=clusters, unit="%", scale=100.0, level=level, cluster_unit="entity").to_dict()


def _attempts(arm: pl.DataFrame, level: float) -> dict[str, Any]:
    """Share attempted of items with a verdict, and share right of those attempted, where both can happen."""
    judged = arm.filter(pl.col("outcome").is_in([*ATTEMPTED, "not_attempted"]))
    tried = judged.filter(pl.col("outcome").is_in(list(ATTEMPTED)))
    if judged.is_empty() or not (arm["outcome"] == "not_attempted").any():
        return {}
    found = {"attempted": _share(judged, pl.col("outcome") != "not_attempted", level)}
    if not tried.is_empty():
        found["precision"] = _share(tried, pl.col("outcome") == "right", level)
    return found


def _texts(arm: pl.DataFrame, base: pl.DataFrame, level: float) -> dict[str, Any]:
    """Length, disclaimers, screens and cuts of generated responses; `churn`: share whose text is not the baseline's.

    `churn_step`, beside it, compares with the lever's arm before it, in the order of doses.
    """
    clusters = arm["cluster_id"].to_numpy()
    words = arm["words"].cast(pl.Float64).fill_null(0.0).to_numpy()
    caveats = arm["disclaimer_words"].cast(pl.Float64).fill_null(0.0).to_numpy()
    common: dict[str, Any] = {"level": level, "cluster_unit": "entity"}
    found: dict[str, Any] = {"words": mean(words, clusters=clusters, unit="words", **common).to_dict()}
    spoken = words > 0
    if spoken.any():
        share = caveats[spoken] / words[spoken]
        found["disclaimer_share"] = mean(share, clusters=clusters[spoken], unit="%", scale=100.0, **common).to_dict()
    for screen in SCREENS:
        found[screen] = _share(arm, pl.col(screen), level)
    found["capped"] = _share(arm, pl.col("stop_reason") == "length", level)
    if arm["lever"][0] != BASELINE:
        before = base["words"].cast(pl.Float64).fill_null(0.0).to_numpy()
        found["words_change"] = mean(words - before, clusters=clusters, unit="words", **common).to_dict()
        found["churn"] = _churn(arm, base, level)
    return found


def _churn(arm: pl.DataFrame, other: pl.DataFrame, level: float) -> dict[str, Any]:
    """Share of items with another text than in the other arm."""
    differs = arm["text"].fill_null("").to_numpy() != other["text"].fill_null("").to_numpy()
    return rate(differs.astype(bool), arm["cluster_id"].to_numpy(), level).to_dict()


def _changes(arm: pl.DataFrame, base: pl.DataFrame, level: float) -> dict[str, Any]:
    """Outcomes and options that changed per item, and a test of scores that are 0 or 1.

    It is McNemar's, or, where entities have several items, one that exchanges the arms of whole entities.
    """
    clusters = arm["cluster_id"].to_numpy()
    moved = arm["outcome"].fill_null("").to_numpy() != base["outcome"].fill_null("").to_numpy()
    found: dict[str, Any] = {"outcome": rate(moved.astype(bool), clusters, level).to_dict()}
    pairs: dict[str, int] = {}
    for before, after in zip(base["outcome"].to_list(), arm["outcome"].to_list(), strict=True):
        if before != after:
            name = f"{before} to {after}"
            pairs[name] = pairs.get(name, 0) + 1
    found["moves"] = dict(sorted(pairs.items()))
    if arm["chosen"].is_not_null().any() and base["chosen"].is_not_null().any():
        other = arm["chosen"].fill_null("").to_numpy() != base["chosen"].fill_null("").to_numpy()
        found["chosen"] = rate(other.astype(bool), clusters, level).to_dict()
    after, before = (t["score"].cast(pl.Float64).fill_null(float("nan")).to_numpy() for t in (arm, base))
    both = np.isin(after, (0.0, 1.0)) & np.isin(before, (0.0, 1.0))
    if both.any():
        test = mcnemar(after[both].astype(bool), before[both].astype(bool))
        found["flips"] = {"up": test.gained, "down": test.lost, "n": test.n, "p": test.p_exact, "test": "mcnemar_exact"}
        if len(set(clusters[both].tolist())) < test.n:  # items of one entity flip together
            swapped = sign_flip(after[both] - before[both], clusters[both], "two-sided")
            found["flips"] |= {"p": swapped.p, "test": "sign_flip_of_entities"}
    return found
