"""The confound table of a readout's report: everything else that could be what the readout reads, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levercheck.publish.format import finite, p_value
from levercheck.publish.readout_length import length_parts
from levercheck.publish.readout_view import (
    Block,
    Cell,
    Figure,
    Part,
    Section,
    Table,
    Text,
    Word,
    at,
    est,
    missing,
    plain,
    records,
    setting,
    table,
)

BASELINES = {
    "neg_logprob": "log-probability",
    "disagreement": "disagreement of samples",
    "answer_tokens": "answer length",
    "response_tokens": "response length",
    "question_characters": "question length",
    "category_prior": "category prior",
    "answer_prior": "answer prior",
}
MATCHED = {
    "confidence": "equally confident answers",
    "answer_tokens": "equally long answers",
    "response_tokens": "equally long responses",
    "category": "the same category",
}
AUROC_COLUMNS = ("compared on", "AUROC")


def confounds(audit: Any, verbosity: Any) -> Section:
    """All confounds in one section, each with the numbers that speak for or against it."""
    blocks: list[Block] = [
        Text(
            "A score can tell wrong from right answers because it reads something that goes along with them: how long "
            "the answer is, how sure the model was, what the question is about, which answer is given. Each row below "
            "holds one of these against the readout. AUROC is 0.5 by chance; a difference is estimated on the same "
            "items, so that its interval may be narrow where both AUROCs’ intervals are wide."
        ),
        Figure(
            "aurocs",
            "AUROC on the test items with intervals. Blue: the probe, on all items and on comparable ones, and beside "
            "the baselines. Grey: what needs no probe.",
        ),
        *length_parts(verbosity),
    ]
    if not table(audit):
        blocks.append(missing("the audit of the readout", "No confound but those above was looked at."))
        return Section("confounds", "Confounds", blocks)
    blocks += [
        _baselines(audit),
        _matched(audit),
        _incremental(audit),
        _selectivity(audit),
        _transfer(audit),
        _stability(audit),
        _heaviest(audit),
        _selection(audit),
    ]
    return Section("confounds", "Confounds", blocks)


def _baselines(audit: Any) -> Part:
    found = table(audit, "baselines")
    names = [*(n for n in BASELINES if n in found), *(n for n in found if n not in BASELINES)]
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        entry = table(found, name)
        about = str(entry.get("description") or "")
        if entry.get("wrong_when"):
            about += f"; wrong when {entry['wrong_when']} (as on training items)"
        if entry.get("missing"):
            about += f"; {plain(entry['missing'])} test items lack it"
        difference = est(entry, "probe_minus_baseline", against=0.0)
        rows.append((BASELINES.get(name, name), about, est(entry, "auroc", against=0.5), difference))
    caption = "What predicts a wrong answer without any probe, on the same test items."
    columns = ("baseline", "what it is", "AUROC", "probe minus baseline")
    return Part("Baselines that need no probe", [Table(caption, columns, rows)])


def _matched(audit: Any) -> Part:
    found = table(audit, "matched")
    rows: list[tuple[Cell, ...]] = [("all test items", est(audit, "detector", "auroc", against=0.5))]
    rows += [(label, est(found, name, against=0.5)) for name, label in MATCHED.items()]
    rows.append(("check: log-probability, equally confident", est(found, "confidence_check", against=0.5)))
    caption = (
        f"AUROC over pairs of a wrong and a right answer that agree in one respect. Equally confident: mean "
        f"log-probabilities within {setting(found.get('caliper'))} nats per token; the check should lie near 0.5. "
        "In the notes, positive means wrong."
    )
    return Part("Matched comparisons", [Table(caption, AUROC_COLUMNS, rows)])


def _incremental(audit: Any) -> Part:
    found = table(audit, "incremental")
    used = ", ".join(BASELINES.get(n, n) for n in found.get("baselines") or []) or "none"
    left = "; ".join(f"{BASELINES.get(n, n)} ({why})" for n, why in table(found, "left_out").items()) or "none"
    text = (
        f"Two logistic models are fitted on the training items and judged on the test items: all baselines ({used}), "
        f"and the same with the probe’s out-of-fold score. Left out: {left}. Items that lack a baseline: "
        f"{plain(found.get('incomplete_items'))}. Ridge {setting(found.get('ridge'))}."
    )
    rows: list[tuple[Cell, ...]] = [
        ("baselines alone", est(found, "surface", against=0.5)),
        ("baselines and probe", est(found, "surface_and_probe", against=0.5)),
        ("difference", est(found, "difference", against=0.0)),
        ("gain in log-loss", est(found, "log_loss_gain", against=0.0)),
    ]
    return Part("What the probe adds", [Text(text), Table("A gain above 0: it adds.", ("model", "estimate"), rows)])


def _selectivity(audit: Any) -> Part:
    found = table(audit, "selectivity")
    text = (
        f"In a control task every answer string has a drawn label ({found.get('labels') or 'not recorded'}), which "
        f"only memory can learn. {plain(found.get('draws'))} control tasks were fitted, {plain(found.get('failed'))} "
        f"failed; {plain(found.get('seen_answers'))} test items have an answer that training has. Rank of the real "
        f"AUROC among them: {p_value(found.get('p'))} (smallest possible {plain(found.get('attainable_p'))})."
    )
    rows: list[tuple[Cell, ...]] = [
        ("real task", est(found, "real", against=0.5)),
        ("control tasks, middle 95 % of draws", est(found, "control")),
        ("control tasks, mean over draws", est(found, "control_mean", counted="draw")),
        ("selectivity: real minus the mean of the controls", est(found, "selectivity", against=0.0)),
        ("accuracy on control tasks, over draws", est(found, "control_accuracy")),
        ("on its own training items, real", est(found, "in_sample", "real")),
        ("on its own training items, control, over draws", est(found, "in_sample", "control")),
    ]
    return Part("Control tasks (selectivity)", [Text(text), Table("AUROC unless marked.", ("task", "estimate"), rows)])


def _transfer(audit: Any) -> Part:
    answers, categories = table(audit, "transfer", "answers"), table(audit, "transfer", "categories")
    rows: list[tuple[Cell, ...]] = [
        ("answers no training item has", est(answers, "unseen", against=0.5)),
        ("answers training has", est(answers, "seen", against=0.5)),
    ]
    blocks: list[Text | Table] = [Table("Test items by their answer.", AUROC_COLUMNS, rows)]
    blocks.append(
        Table(
            "Each category’s test items, scored by a probe refitted without that category and by the full probe.",
            ("category", "right / wrong", "probe without it", "full probe", "without minus full"),
            [
                (
                    str(name),
                    f"{plain(at(entry, 'right'))} / {plain(at(entry, 'wrong'))}",
                    est(entry, "left_out", against=0.5),
                    est(entry, "full", against=0.5),
                    est(entry, "left_out_minus_full", against=0.0),
                )
                for name, entry in categories.items()
            ],
            "no category is recorded",
        )
    )
    others = records(audit, "transferred")
    if not others:
        blocks.append(missing("other questions", "The readout was not tried on another set of questions."))
    for other in others:
        counted = table(other, "shared_with_training").items()
        shared = "; ".join(f"{name.replace('_', ' ')}: {plain(count)}" for name, count in counted)
        caption = f"Test items of another set of questions ({other.get('name', 'unnamed')}). "
        blocks.append(
            Table(
                f"{caption}Shared with training here: {shared or 'not recorded'}.",
                AUROC_COLUMNS,
                [
                    ("all its test items", est(other, "detector", "auroc", against=0.5)),
                    ("those without anything shared", est(other, "auroc_without_shared", against=0.5)),
                ],
            )
        )
    return Part("Transfer", blocks)


def _stability(audit: Any) -> Part:
    found = table(audit, "stability")
    names = (("bootstrap", "bootstrap refits"), ("half", "half-sample refits"))
    measures = (
        ("selected", "components selected"),
        ("jaccard", "agreement of two refits (Jaccard)"),
        ("with_readout", "agreement with the readout (Jaccard)"),
        ("auroc", "AUROC of the refits"),
    )
    rows: list[tuple[Cell, ...]] = [
        (f"{label}, {what}", est(found, name, measure, counted="refit"))
        for name, label in names
        for measure, what in measures
    ]
    texts = []
    for name, label in names:
        own = table(found, name)
        text = f"{label.capitalize()}: {plain(own.get('refits'))} fitted, {plain(own.get('failed'))} failed"
        if "absent" not in own:
            text += (
                f", {plain(own.get('empty'))} without any selected component. Random sets of these sizes would agree "
                f"by {plain(own.get('jaccard_by_chance'))} (Jaccard). {plain(own.get('ever_selected'))} components "
                f"were selected at least once, {plain(own.get('in_80_percent_of_refits'))} in 80 % or more; "
                f"of the readout’s {plain(own.get('readout_components'))}, "
                f"{plain(own.get('readout_in_80_percent_of_refits'))}"
            )
        if own.get("expected_false_in_80_percent") is not None:
            text += f". By chance at most {plain(own['expected_false_in_80_percent'])} would be expected"
        texts.append(Text(f"{text}."))
    path: list[tuple[Cell, ...]] = [
        (
            f"{setting(row.get('c'))}{' (chosen)' if row.get('chosen') is True else ''}",
            plain(row.get("nonzero")),
            plain(row.get("positive")),
            _shared(row.get("with_previous")),
            _shared(row.get("with_chosen")),
        )
        for row in records(found, "path")
    ]
    return Part(
        "Stability of the selection",
        [
            Text(f"Selected means a positive weight, out of {plain(found.get('components'))} components of the model."),
            *texts,
            Table("Intervals over refits hold for more refits of the same items.", ("measure", "estimate"), rows),
            Table(
                "Selected components at each C: shared / united, Jaccard index (counts, no estimates).",
                ("C", "non-zero", "positive", "with the C before", "with the chosen C"),
                path,
            ),
        ],
    )


def _shared(entry: object) -> str:
    if not isinstance(entry, Mapping):
        return "no C before it"
    jaccard = finite(entry.get("jaccard"))
    value = "both empty" if jaccard is None else plain(jaccard, 2)
    return f"{plain(entry.get('shared'))} / {plain(entry.get('union'))}, {value}"


def _heaviest(audit: Any) -> Part:
    top, rules = table(audit, "top_component"), table(audit, "components", "rules")
    title = "The heaviest components"
    if "component" not in top:
        why = str(top.get("absent") or "not recorded")
        return Part(title, [missing("a heaviest component", f"Not estimable: {why}.")])
    partner = table(top, "correlation")
    median = finite(top.get("median_rank_in_refits"))
    text = (
        f"{top['component']} has the largest weight ({plain(top.get('weight'))}) and is called "
        f"“{top.get('verdict', 'not estimable')}”. It is the heaviest in {plain(top.get('heaviest_in_refits'))} "
        f"bootstrap refits (median rank where selected: {'not recorded' if median is None else f'{median:g}'}); it "
        f"correlates most with {partner.get('with', 'an unnamed component')} (r = {plain(partner.get('value'), 2)} on "
        "training items, descriptive)."
    )
    rule = (
        f"Stable: selected in at least {_percent(rules.get('frequency'))} of bootstrap refits, among the "
        f"{plain(rules.get('auroc_rank'))} best alone, among the {plain(rules.get('path_rank'))} heaviest at the "
        f"neighbouring values of C, and no correlation of {plain(rules.get('correlation'), 2)} or more with another "
        "component. Otherwise its weight may be an artefact of L1, which picks one of many that say the same."
    )
    rows: list[tuple[Cell, ...]] = [
        (
            str(row.get("component", "unnamed")),
            plain(row.get("weight")),
            est(row, "auroc", against=0.5),
            est(row, "frequency", counted="refit"),
            f"{at(row, 'correlation', 'with') or 'not recorded'}, r = {plain(at(row, 'correlation', 'value'), 2)}",
            Word(str(row.get("verdict", "not estimable"))),
        )
        for row in records(audit, "components", "heaviest")
    ]
    without: list[tuple[Cell, ...]] = [
        ("probe without it", est(top, "without", "auroc", against=0.5)),
        ("without minus full", est(top, "without", "minus_full", against=0.0)),
    ]
    return Part(
        title,
        [
            Text(text),
            Text(rule),
            Table(f"Refitted without {top['component']}.", ("probe", "AUROC"), without),
            Table(
                "The heaviest components one by one.",
                ("component", "weight", "AUROC alone", "selected in refits", "most correlated with", "verdict"),
                rows,
            ),
        ],
    )


def _selection(audit: Any) -> Part:
    found = table(audit, "selection")
    rows: list[tuple[Cell, ...]] = []
    for kind, prefix in (("spans", "span "), ("reserve", "in reserve: "), ("lengths", "mean ")):
        for name, entry in table(found, kind).items():
            label = BASELINES.get(name, name) if kind == "lengths" else name
            sides: list[Cell] = [est(entry, side) for side in ("right", "wrong")]
            rows.append((f"{prefix}{label}", *sides, est(entry, "difference", against=0.0, difference=True)))
    caption = "Did the way an item entered depend on its label? Differences of shares are in percentage points (pp)."
    columns = ("of the items", "right", "wrong", "wrong minus right")
    return Part("How items entered", [Table(caption, columns, rows)])


def _percent(value: object) -> str:
    real = finite(value)
    return "a share not recorded" if real is None else f"{100 * real:g} %"
