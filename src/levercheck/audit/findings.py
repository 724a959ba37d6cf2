"""Remarks a reader must not miss; each names the estimates it rests on."""

from __future__ import annotations

from typing import Any

from levercheck.stats import Estimate


def findings(estimates: dict[str, Estimate], facts: dict[str, Any]) -> list[dict[str, str]]:
    """Codes and sentences for what the standings alone would hide."""
    found: list[dict[str, str]] = []

    def add(code: str, text: str, *names: str) -> None:
        found.append({"code": code, "text": text, "estimates": ", ".join(names)})

    rival = estimates.get("probe.minus_neg_logprob")
    if rival is not None and rival.low is not None and rival.high is not None and rival.low <= 0:
        better = (
            "predicts the label better than the probe" if rival.high < 0 else "is not shown to be beaten by the probe"
        )
        add(
            "free_baseline",
            f"The plain mean log-probability of the answer, which costs nothing, {better}.",
            "probe.minus_neg_logprob",
            "baseline.neg_logprob.auroc",
        )
    agreeing = estimates.get("labels.wrong_agreeing")
    if agreeing is not None and agreeing.high is not None and agreeing.high < 0.5:
        add(
            "wrong_is_guessing",
            "Most consistently wrong questions get different wrong answers: the label is close to 'it is guessing'.",
            "labels.wrong_agreeing",
            "labels.right_agreeing",
        )
    measured = estimates.get("h_neurons.slope")
    if measured is not None and measured.high is not None and measured.high < 0:
        add(
            "opposite_direction",
            "Scaling the H-neurons up lowers compliance, against the declared direction.",
            "h_neurons.slope",
        )
    if facts.get("specificity", {}).get("equivalent_within_margin"):
        add(
            "equivalent_to_zero",
            "The slope of the H-neurons is equivalent to zero: its 90 % interval lies inside the margin on both sides.",
            "h_neurons.slope.90",
        )
    if "null" in facts and facts["null"]["p"] > 0.05:
        add(
            "ordinary_first_order",
            "To first order the H-neurons cannot be told from a random layer-matched set.",
            "null.percentile",
            "h_neurons.first_order",
        )
    moving = [
        n for n, e in estimates.items() if n.startswith("random-") and n.endswith(".logit_slope") and e.excludes(0.0)
    ]
    sets = facts.get("specificity", {}).get("random_sets")
    if moving:
        add(
            "random_sets_move",
            f"{len(moving)} of {sets} random sets have a logit slope whose interval excludes 0: that alone is no "
            "evidence of a lever.",
            *moving,
        )
    doses = [n.removeprefix("h_neurons.relative_dose.") for n in estimates if n.startswith("h_neurons.relative_dose.")]
    for at in sorted(doses, key=lambda name: float(name.removeprefix("a")))[-1:]:
        own, other = estimates[f"h_neurons.relative_dose.{at}"].value, estimates.get(f"gradient.relative_dose.{at}")
        if own and other is not None and other.value is not None and other.value > 2 * own:
            add(
                "unequal_effort",
                f"At the same dose the positive control changes its layers' output {other.value / own:.1f} times as "
                "much as the H-neurons do: it shows that the task can move, not that so small a change could move it.",
                f"h_neurons.relative_dose.{at}",
                f"gradient.relative_dose.{at}",
            )
    if "probe" in facts and facts["probe"]["c"] != facts["probe"]["c_used"]:
        add("c_differs", "The C that the out-of-fold rows select is not the C of the stored readout.", "probe.auroc")
    return found
