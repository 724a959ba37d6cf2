"""The sections of a readout's report beside checks and confounds: headline, funnel, C path, performance, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from levercheck import __version__
from levercheck.publish.format import finite, plural, whole
from levercheck.publish.readout_checks import check_words, checks_section
from levercheck.publish.readout_components import neurons_section, overlap_section
from levercheck.publish.readout_confounds import confounds
from levercheck.publish.readout_view import (
    Block,
    Cell,
    Est,
    Figure,
    Number,
    Part,
    Report,
    Section,
    Table,
    Text,
    at,
    counts,
    est,
    missing,
    plain,
    quote,
    records,
    setting,
    settings_rows,
    table,
)
from levercheck.stats._scipy import two_sided_t

LIMIT = (
    "This is detection only. Nothing was intervened on: it does not show that these components cause wrong answers, "
    "nor that changing them would change what the model says."
)
STRIP = {
    "detects": "detects",
    "detects at equal confidence": "at equal confidence",
    "beats neg_logprob": "beats log-probability",
    "moved more by truth than by length": "truth over length",
}
LABELS = ("right", "wrong", "mixed", "uncertain", "error", "incomplete")


def report(material: Mapping[str, Any]) -> Report:
    """The report of a readout from its material."""
    audit = table(material, "audit")
    words = table(audit, "checks")
    strip = [(label, str(words.get(name, "missing"))) for name, label in STRIP.items()]
    area = main_area(material)
    return Report(
        title=str(material.get("title") or "A readout and its confounds"),
        headline=headline(area),
        limit=LIMIT,
        facts=(
            f"Model: {model_name(material)}. {check_words(words)} "
            "Intervals are 95 % unless marked; n counts items, and the second count is the units taken as independent."
        ),
        sections=[
            checks_section(audit),
            confounds(audit, material.get("verbosity")),
            _funnel(material),
            _path(material),
            _performance(material),
            neurons_section(material.get("neurons")),
            overlap_section(records(material, "overlap")),
            _made(material),
            _limits(material),
        ],
        strip=strip if words else (),
    )


def main_area(material: Mapping[str, Any]) -> Number:
    """The AUROC on the test items: the audit's, or without an audit the probe's own."""
    found = quote(material, "audit", "detector", "auroc")
    return found if found.value is not None else quote(material, "probe", "test", "auroc")


def headline(q: Number) -> str:
    """What was found, with the main interval."""
    if q.value is None:
        return (
            f"Whether the readout tells wrong from right answers is not estimable ({q.note or 'no reason recorded'})."
        )
    number = f"AUROC {q.shown(0.5)} {q.interval(0.5)}"
    where = f"on {plural(q.n, 'held-out question')}" if q.n is not None else "on held-out questions"
    if q.clusters is not None:
        where += f" in {plural(q.clusters, q.cluster_unit or 'cluster')}"
    if q.low is None or q.high is None:
        return f"The readout has {number} {where}: without an interval it shows nothing."
    if q.low > 0.5:
        return f"The readout tells consistently wrong from consistently right answers {where}: {number}."
    if q.high < 0.5:
        return f"The readout ranks consistently wrong below consistently right answers {where}: {number}."
    return (
        f"It is not shown that the readout tells consistently wrong from consistently right answers {where}: {number}."
    )


def model_name(material: Mapping[str, Any]) -> str:
    """What the model is called."""
    return str(at(material, "model", "name") or "not recorded")


def _funnel(material: Mapping[str, Any]) -> Section:
    blocks: list[Block] = [
        Text("From the questions that were asked to the items that the probe was fitted and judged on.")
    ]
    collect, spans, split = (table(material, name) for name in ("collect", "spans", "split"))
    if collect:
        rows: list[tuple[Cell, ...]] = [("questions asked", plain(collect.get("questions")))]
        rows += [(f"consistently {n}" if n in LABELS[:2] else n, est(collect, "labels", n)) for n in LABELS]
        extra = (("distinct_answers", "distinct answers"), ("cut_by_token_cap", "samples cut by the token limit"))
        rows += [(label, est(collect, "answers", name)) for name, label in extra]
        rows.append(("samples matched as a substring only", est(collect, "answers", "substring_only_matches")))
        blocks.append(Table("Questions and their labels, % of questions.", ("step", "estimate"), rows))
        blocks += _judge(material)
    else:
        blocks.append(missing("the collection of answers", "How many questions were asked is not known here."))
    if spans:
        names = (("found", "span found"), ("whole", "whole response"), ("extracted", "extracted"), ("alias", "alias"))
        rows = [(text, *(est(spans, "per_label", label, name) for label in LABELS[:2])) for name, text in names]
        caption = f"Answer spans of consistent questions. Without a span: {counts(table(spans, 'reasons'))}."
        blocks.append(Table(caption, ("span", "right answers", "wrong answers"), rows))
    else:
        blocks.append(missing("the answer spans", "How they were found is not known here."))
    if split:
        fields = ("right", "wrong", "groups", "answers")
        rows = [
            (role, *(plain(at(split, "roles", role, name)) for name in fields))
            for role in sorted(table(split, "roles"), key=lambda name: (name != "train", str(name)))
        ]
        blocks.append(Table("Roles.", ("role", "right", "wrong", "groups", "distinct answers"), rows))
        shared = counts({k.replace("_", " "): v for k, v in table(split, "shared").items()})
        blocks.append(
            Text(
                f"In reserve, used by no role: {counts(table(split, 'reserve'))}. Shared by train and test: {shared}. "
                "Test items with an answer that training has: "
                f"{plain(split.get('test_items_with_an_answer_seen_in_training'))}."
            )
        )
    else:
        blocks.append(missing("the roles", "What train and test share is not known here."))
    return Section("funnel", "From questions to items", blocks)


def _judge(material: Mapping[str, Any]) -> list[Block]:
    """Who judged the answers, and how far a model that did agrees with the ruler."""
    verdicts = table(material, "verdicts")
    if not verdicts:
        ruler = "The answers were judged by the ruler, which compares them with the accepted ones, and by no model."
        imported = "The answers came with their verdicts; who judged them is not known here."
        return [Text(imported if "imported" in table(material, "settings", "answers") else ruler)]
    judge = at(material, "settings", "verdicts", "model") or "its name is not recorded"
    text = (
        f"The answers were judged by a model ({judge}), {plain(verdicts.get('distinct_answers'))} distinct ones; its "
        "verdicts replace the ruler’s."
    )
    cells: list[tuple[Cell, ...]] = [("agreement with the ruler (Cohen’s kappa)", est(verdicts, "kappa_with_ruler"))]
    cells += [
        (f"judge {row.get('judge')}, ruler {row.get('ruler')}", plain(row.get("answers")))
        for row in records(verdicts, "table")
    ]
    return [Text(text), Table("Verdicts of model and ruler, distinct answers.", ("verdicts", "estimate"), cells)]


def fold_interval(row: Mapping[str, Any]) -> Number:
    """Mean out-of-fold AUROC of one C with Student's interval over the folds, cut at 0 and 1."""
    value, sd, folds = finite(row.get("mean_fold_auroc")), finite(row.get("sd")), whole(row.get("folds"))
    known = Number("c_grid", value, unit="AUROC", clusters=folds, cluster_unit="fold", level=0.95)
    if value is None:
        return replace(known, note="no out-of-fold AUROC is recorded")
    if not sd or folds is None or folds < 2:
        return replace(known, note="no variation between folds" if sd == 0 else "spread over folds not recorded")
    half = two_sided_t(0.95, folds - 1) * sd / folds**0.5
    return replace(known, low=max(0.0, value - half), high=min(1.0, value + half))


def opened(probes: Any) -> str:
    """How often the test role was looked at, from the names of the probes that did."""
    names = [str(name) for name in probes] if isinstance(probes, list | tuple) else []
    if not names:
        return "how often the test role was opened is not recorded"
    if len(names) == 1:
        return "the test role was opened once, after C was chosen"
    return (
        f"the test role was opened by {len(names)} probes ({', '.join(names)}): choosing among them by test numbers "
        "would make these numbers too good"
    )


def path_entries(material: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per C, ascending: its out-of-fold AUROC, how many weights there are, and whether it was chosen."""
    grid = {c: row for row in records(material, "probe", "c_grid") if (c := finite(row.get("c"))) is not None}
    path = {c: row for row in records(material, "path", "path") if (c := finite(row.get("c"))) is not None}
    chosen = finite(at(material, "probe", "c"))
    return [
        {
            "c": c,
            "chosen": c == chosen,
            "auroc": fold_interval(grid.get(c, {})),
            "sd": finite(grid.get(c, {}).get("sd")),
            "nonzero": whole(path.get(c, {}).get("nonzero")),
            "positive": whole(path.get(c, {}).get("positive")),
            "kkt": finite(path.get(c, {}).get("kkt_residual")),
            "layers": {int(k): v for k, v in table(path.get(c, {}), "layers").items() if k.isdecimal() and whole(v)},
        }
        for c in sorted(grid.keys() | path.keys())
    ]


def _path(material: Mapping[str, Any]) -> Section:
    blocks: list[Block] = []
    if not table(material, "probe"):
        blocks.append(missing("the results of the probe", "How C was chosen is not known here."))
    if not table(material, "path"):
        blocks.append(missing("the C path", "How many components each C selects is not known here."))
    entries = path_entries(material)
    rows: list[tuple[Cell, ...]] = [
        (
            setting(entry["c"]) + (" (chosen)" if entry["chosen"] else ""),
            Est(entry["auroc"]),
            plain(entry["sd"]),
            plain(entry["nonzero"]),
            plain(entry["positive"]),
            plain(entry["kkt"]),
        )
        for entry in entries
    ]
    if entries:
        blocks += [
            Figure(
                "c-path",
                "Above: mean out-of-fold AUROC on training items with Student’s interval over folds; folds share "
                "training items, so that it is somewhat too narrow. Below: components with any weight and with a "
                "positive one. The dashed line marks the chosen C.",
            ),
            Table(
                "C was chosen on training folds alone; the KKT residual says how exactly the fit is solved.",
                ("C", "out-of-fold AUROC", "SD over folds", "non-zero", "positive", "KKT residual"),
                rows,
            ),
            Figure("layers", "Components of positive weight per layer at the chosen C."),
        ]
    return Section("path", "Choice of C, and where the components lie", blocks)


def _performance(material: Mapping[str, Any]) -> Section:
    probe = table(material, "probe")
    if not probe:
        return Section("performance", "Performance", [missing("the results of the probe", "Nothing can be shown.")])
    names = (("auroc", "AUROC"), ("accuracy", "accuracy"), ("precision", "precision"), ("recall", "recall"))
    rows: list[tuple[Cell, ...]] = [
        (label, est(probe, "test", name), est(probe, "train", name)) for name, label in (*names, ("f1", "F1"))
    ]
    confusion: list[tuple[Cell, ...]] = [
        (role, *(plain(at(probe, role, "confusion", cell)) for cell in _CONFUSION)) for role in ("test", "train")
    ]
    return Section(
        "performance",
        "Performance",
        [
            Text(
                f"The decision is “wrong” when the score is above 0; {opened(material.get('openings'))}. "
                "The training column is in-sample and says only how far the probe fits what it has seen."
            ),
            Table("", ("measure", "test", "training (in-sample)"), rows),
            Table("Counts at score 0.", ("role", *(c.replace("_", ", ") for c in _CONFUSION)), confusion),
        ],
    )


_CONFUSION = ("wrong_flagged", "right_flagged", "wrong_missed", "right_passed")


def _made(material: Mapping[str, Any]) -> Section:
    definitions: list[tuple[Cell, ...]] = [
        ("consistent", "every sampled answer to a question is judged alike; mixed questions are left out"),
        ("CETT", "share of an MLP’s output norm that one neuron contributes, per token of the answer span"),
        ("readout", "sparse logistic regression on these values; its score is the log-odds of “wrong”"),
        ("group", "items that the split keeps in one role: the unit that intervals take as independent"),
        ("%, pp", "% is a share; pp (percentage points) is a difference of two shares"),
        ("software", f"levercheck {__version__}"),
    ]
    blocks: list[Block] = [Table("Definitions.", ("word", "meaning"), definitions)]
    for key, name in (("model", "Model"), ("source", "Questions")):
        found = table(material, key)
        empty = f"Missing: what the {name.lower()} are was not recorded."
        blocks.append(Table(f"{name}.", ("setting", "value"), settings_rows(found), empty))
    stages = table(material, "settings")
    if not stages:
        blocks.append(missing("the settings of the stages", "Seeds and versions are not known here."))
    for stage, found in stages.items():
        rows = settings_rows(found)
        empty = "this stage has no settings"
        blocks.append(
            Part(f"Settings of {stage}", [Table("", ("setting", "value"), rows, empty)], closed=True),
        )
    return Section("made", "How it was measured", blocks)


def _limits(material: Mapping[str, Any]) -> Section:
    texts = [
        LIMIT,
        "Only questions with consistent answers are used, and right and wrong ones are balanced; the numbers do not "
        "hold for questions in general, nor for the share of wrong answers met in use.",
        "A confound that is not in the tables was not tested. A baseline that the probe does not beat on few items may "
        "be beaten on many, and the other way round.",
        "L1 picks one of several components that say the same; a list of components is not a list of causes.",
        "One model and one set of questions; other models were not looked at.",
    ]
    if not records(material, "audit", "transferred"):
        texts.append("The readout was not tried on questions from another source.")
    return Section("limits", "Limits", [Text(text) for text in texts])
