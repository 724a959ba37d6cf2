"""The plan of a study: what it counts, what it tells to get, and that it needs no model runtime and no data."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import yaml
from tests.benchmarks.fixtures_answers import write_bioasq, write_jbb_benign, write_jbb_harmful, write_triviaqa
from tests.benchmarks.fixtures_choice import write_faitheval, write_falseqa, write_simpleqa, write_truthfulqa

from levercheck.benchmarks.base import Request, find_benchmark, used
from levercheck.benchmarks.data import FOLDER_VARIABLE, Use, identity
from levercheck.benchmarks.manifests import Manifest, folds
from levercheck.benchmarks.roles import entity_roles
from levercheck.errors import UsageError
from levercheck.evidence.files import write_json
from levercheck.evidence.splits import roles_by_entity
from levercheck.stats import mde_paired_proportion
from levercheck.study.plan import DISCORDANCE, NOOP, REFERENCES, Plan, Surface, plan
from levercheck.study.spec import StudySpec, read_study
from levercheck.study.uses import benchmark_of, use_of

STUDIES = sorted((Path(__file__).parents[2] / "studies" / "gemma3_4b").glob("*.yaml"))
STUDY: dict[str, Any] = {
    "study": "plans",
    "model": "none",
    "readouts": {"h": {"family": "neurons"}},
    "interventions": {"scale": {"readout": "h", "operator": "scale", "doses": [0, 1, 3]}},
    "benchmarks": ["truthfulqa-mc1"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every data file a benchmark looks for, self-made; TriviaQA as a folder with a split."""
    folder = tmp_path_factory.mktemp("data")
    for write in (write_bioasq, write_triviaqa, write_jbb_harmful, write_jbb_benign, write_faitheval,
                  write_truthfulqa, write_falseqa, write_simpleqa):  # fmt: skip
        write(folder)
    (folder / "triviaqa").mkdir()
    (folder / "triviaqa.parquet").rename(folder / "triviaqa" / "validation-00000-of-00001.parquet")
    return folder


@pytest.fixture
def data(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those files are the data folder."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(files))
    return files


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder is empty."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "empty"))
    return tmp_path


def copied(path: Path, folder: Path) -> Path:
    """The study file alone in a folder of its own: no manifest, no readout."""
    (folder / "study").mkdir(exist_ok=True)
    return Path(shutil.copy(path, folder / "study"))


def spec_of(**changes: Any) -> StudySpec:
    return StudySpec.model_validate({**STUDY, **changes})


def surface(made: Plan, name: str) -> Surface:
    return next(one for one in made.surfaces if one.benchmark == name)


def token(answer: str) -> int:
    return int.from_bytes(answer.partition(" ")[0].encode()[:6], "big")


def counted(spec: StudySpec, base: Path, names: Sequence[str]) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """What these benchmarks make, replicates included, and of how many entities, by the roles of a study on them.

    Of an entity at most `per_entity` items, or all that the benchmark says belong together; a limit counts items.
    """
    uses = {name: use_of(spec, base, name) for name in names}
    roles = entity_roles(list(uses.values()), spec.items.shares, spec.seed, token)
    found = {}
    for name, use in uses.items():
        benchmark = used(use)
        most = max(spec.items.per_entity, benchmark.per_entity)
        clusters = Counter(item.cluster for item in benchmark.items(Request(token, lambda _: True, spec.seed, use)))
        items, entities = {}, {}
        for role in ("tune", "confirm"):
            sizes = [min(size, most) for cluster, size in clusters.items() if roles[cluster] == role]
            asked = min(sum(sizes), spec.items.limit or sum(sizes))
            items[role] = asked * benchmark.policy.replicates
            entities[role] = min(len(sizes), asked)  # one of every entity before a second of any
        found[name] = items, entities
    return found


def counts(made: Plan) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """The same of a plan, of benchmarks whose data are here."""
    return {one.benchmark: (dict(one.items), dict(one.entities)) for one in made.surfaces if one.here}


def check_costs(spec: StudySpec, base: Path, made: Plan) -> None:
    """Rows and tokens follow from items, arms and the token cap."""
    for one in made.surfaces:
        benchmark = benchmark_of(spec, base, one.benchmark)
        cap = benchmark.policy.max_new_tokens if benchmark.kind == "answer" else 0
        assert (one.kind, one.style) == (benchmark.kind, benchmark.style_name)
        assert one.rows == {role: count * (made.arms + REFERENCES) for role, count in one.items.items()}
        assert one.generated_tokens == {role: count * cap for role, count in one.rows.items()}


def test_the_studies_are_there() -> None:
    assert len(STUDIES) >= 11


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_plans_without_data_and_says_what_to_get(path: Path, nothing: Path) -> None:
    path = copied(path, nothing)
    spec = read_study(path)
    made = plan(spec, path.parent)
    assert (made.study, made.model) == (spec.study, spec.model)
    assert [one.benchmark for one in made.surfaces] == list(spec.benchmarks)
    check_costs(spec, path.parent, made)
    shipped = [name for name in spec.benchmarks if benchmark_of(spec, path.parent, name).source is None]
    assert counts(made) == counted(spec, path.parent, shipped)
    for one in made.surfaces:
        source, use = benchmark_of(spec, path.parent, one.benchmark).source, use_of(spec, path.parent, one.benchmark)
        lines = [line for line in made.to_get if line.startswith(f"{one.benchmark}: ")]
        if source is None:
            assert not lines
            continue
        file = source.name if use.split is None else f"{source.name}-{use.split}"
        assert any(f"get {source.get}; save it as {file}.{'/'.join(source.endings)} in" in line for line in lines)
        if use.manifest is not None:
            assert any(f"draw its manifest into {use.manifest.relative_to(path.parent.resolve())} " in s for s in lines)
    assert {line.partition(":")[0] for line in made.to_get if line.startswith("readout ")} == {
        f"readout {name}" for name in spec.readouts
    }
    assert len(set(made.to_get)) == len(made.to_get) and all("\n" not in line for line in made.to_get)
    text = json.dumps(made.to_dict(), allow_nan=False)
    assert json.dumps(json.loads(text)) == text and str(nothing) not in text  # plain JSON, and no path of this machine


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_with_data_the_items_are_those_that_the_benchmark_makes(path: Path, data: Path, tmp_path: Path) -> None:
    path = copied(path, tmp_path)
    document = yaml.safe_load(path.read_text())
    for settings in document.get("settings", {}).values():
        settings.pop("manifest", None)
    path.write_text(yaml.safe_dump(document))
    spec = read_study(path)
    made = plan(spec, path.parent)
    assert all(one.here for one in made.surfaces)
    assert made.to_get == tuple(
        f"readout {name}: fit it, or import it, into {readout.folder}"
        for name, readout in spec.readouts.items()
        if readout.folder is not None
    )
    assert counts(made) == counted(spec, path.parent, spec.benchmarks)
    assert all(min(one.items.values()) > 0 for one in made.surfaces)
    check_costs(spec, path.parent, made)


def test_a_limit_is_of_a_benchmark_and_a_role(data: Path, tmp_path: Path) -> None:
    names = ["falseqa", "truthfulqa-mc1"]
    spec = spec_of(
        benchmarks=names, items={"limit": 10}, settings={"falseqa": {"shares": {"tune": 0.1, "confirm": 0.9}}}
    )
    made = plan(spec, tmp_path)
    assert counts(made) == counted(spec, tmp_path, names)
    assert {one.benchmark: one.items for one in made.surfaces} == {
        "falseqa": {"tune": 4, "confirm": 10},
        "truthfulqa-mc1": {"tune": 8, "confirm": 10},
    }


def test_framings_are_asked_together_and_replicates_come_with_their_items(data: Path, tmp_path: Path) -> None:
    """Five framings of each of 40 behaviours, though the study asks two items of an entity if nothing is said."""
    settings = {
        "jailbreak": {"shares": {"tune": 0.25, "confirm": 0.75}, "replicates": 3},
        "jailbreak-benign": {"shares": {"tune": 0.25, "confirm": 0.75}},
    }
    for limit, items, entities in ((None, (50, 150), (10, 30)), (20, (20, 20), (10, 20)), (8, (8, 8), (8, 8))):
        spec = spec_of(benchmarks=["jailbreak", "jailbreak-benign"], settings=settings, items={"limit": limit})
        made = plan(spec, tmp_path)
        assert counts(made) == counted(spec, tmp_path, spec.benchmarks)
        twice, once = surface(made, "jailbreak"), surface(made, "jailbreak-benign")
        assert tuple(once.items.values()) == items and tuple(twice.items.values()) == tuple(3 * n for n in items)
        assert tuple(once.entities.values()) == tuple(twice.entities.values()) == entities


def test_counts_of_published_data(nothing: Path) -> None:
    settings = {
        "falseqa": {"shares": {"tune": 0.2, "confirm": 0.8}},
        "jailbreak": {"replicates": 3, "max_new_tokens": 10, "shares": {"tune": 0.3, "confirm": 0.7}},
    }
    spec = spec_of(benchmarks=["falseqa", "jailbreak", "sycophancy"], settings=settings)
    made = plan(spec, nothing)
    assert surface(made, "falseqa").items == {"tune": 138, "confirm": 550}  # of 687: upper bounds
    drawn = Counter(roles_by_entity([f"falseqa:{n}" for n in range(687)], {"tune": 0.2, "confirm": 0.8}, 0).values())
    assert all(surface(made, "falseqa").items[role] >= count for role, count in drawn.items())
    jailbreak = surface(made, "jailbreak")
    assert jailbreak.items == {"tune": 450, "confirm": 1050}
    assert jailbreak.entities == {"tune": 30, "confirm": 70}  # behaviours, of five framings
    assert made.arms == 2 and jailbreak.generated_tokens == {"tune": 450 * 4 * 10, "confirm": 1050 * 4 * 10}
    doubted = surface(made, "sycophancy")
    assert doubted.items == {"tune": 1992, "confirm": 2988}
    assert doubted.generated_tokens["tune"] == 1992 * 4 * 512 * 2  # two turns
    limited = plan(spec_of(benchmarks=["falseqa", "jailbreak"], settings=settings, items={"limit": 100}), nothing)
    assert surface(limited, "falseqa").items == {"tune": 100, "confirm": 100}
    assert surface(limited, "jailbreak").items == {"tune": 300, "confirm": 300}  # replicates are no items


def manifests(base: Path, count: int = 2) -> list[dict[str, int]]:
    """Folds of TruthfulQA in `manifests/`; numbers of items by role."""
    use = Use("truthfulqa-mc1")
    benchmark = used(use)
    assert benchmark.source is not None
    items = benchmark.made(Request(token, lambda _: True, 0, use))
    made = folds(items, 0, source="truthfulqa", data=identity(benchmark.source, use), count=count)
    for number, one in enumerate(made):
        write_json(base / "manifests" / f"fold-{number}.json", one.to_dict())
    return [{role: len(one.roles[role]) for role in ("tune", "confirm")} for one in made]


FOLD = {"truthfulqa-mc1": {"manifest": "manifests/fold-0.json"}}


def test_a_manifest_decides_with_and_without_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = manifests(tmp_path, 3)[0]
    assert sizes == {"tune": 4, "confirm": 12}
    spec = spec_of(settings=FOLD)
    with_data = plan(spec, tmp_path)
    assert surface(with_data, "truthfulqa-mc1").items == sizes and surface(with_data, "truthfulqa-mc1").here
    assert not with_data.to_get
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "empty"))
    without = plan(spec, tmp_path)
    assert surface(without, "truthfulqa-mc1").items == sizes and not surface(without, "truthfulqa-mc1").here
    (line,) = without.to_get
    assert line.startswith("truthfulqa-mc1: get TruthfulQA.csv")
    limited = plan(spec_of(settings=FOLD, items={"limit": 5}), tmp_path)
    assert surface(limited, "truthfulqa-mc1").items == {"tune": 4, "confirm": 5}


def test_a_manifest_that_lists_a_part_of_a_cluster_counts_that_part(data: Path, tmp_path: Path) -> None:
    roles = {"tune": ("jbb-0-t1", "jbb-1-t1", "jbb-1-t4"), "confirm": ("jbb-2-t1",)}
    write_json(tmp_path / "own.json", Manifest("jbb-harmful", {}, 0, roles).to_dict())
    for replicates in (1, 3):
        settings = {"jailbreak": {"manifest": "own.json", "replicates": replicates}}
        made = plan(spec_of(benchmarks=["jailbreak"], settings=settings, items={"per_entity": 9}), tmp_path)
        assert surface(made, "jailbreak").items == {"tune": 3 * replicates, "confirm": replicates}
        assert surface(made, "jailbreak").entities == {"tune": 2, "confirm": 1}


def test_a_manifest_that_is_not_drawn_yet_is_told(data: Path, tmp_path: Path) -> None:
    spec = spec_of(settings=FOLD)
    told = "truthfulqa-mc1: draw its manifest into manifests/fold-0.json ('levercheck benchmarks manifest')"
    assert plan(spec, tmp_path).to_get == (told,)
    family = spec_of(benchmarks=["truthfulqa-mc1/plain"], settings=FOLD)
    assert plan(family, tmp_path).to_get == (told.replace("mc1:", "mc1/plain:"),)


@pytest.mark.parametrize("here", [True, False])
def test_before_its_manifest_is_drawn_every_role_may_get_all(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    """Nobody knows the sizes yet, so that shares would say less than what will be asked."""
    if not here:
        (tmp_path / "empty").mkdir()
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "empty"))
    spec = spec_of(settings=FOLD)
    assert surface(plan(spec, tmp_path), "truthfulqa-mc1").items == {"tune": 817, "confirm": 817}
    assert surface(plan(spec_of(settings=FOLD, items={"limit": 50}), tmp_path), "truthfulqa-mc1").items == {
        "tune": 50, "confirm": 50,
    }  # fmt: skip
    framed = {"jailbreak": {"manifest": "manifests/own.json", "replicates": 2}}
    found = surface(plan(spec_of(benchmarks=["jailbreak"], settings=framed), tmp_path), "jailbreak")
    assert (found.items, found.entities) == ({"tune": 1000, "confirm": 1000}, {"tune": 100, "confirm": 100})
    own = {"nonexist": {"manifest": "manifests/own.json"}}  # ships with its 500 items
    made = plan(spec_of(benchmarks=["nonexist"], settings=own), tmp_path)
    assert surface(made, "nonexist").items == {"tune": 500, "confirm": 500}


def test_mistakes_are_raised_as_a_run_would(data: Path, tmp_path: Path) -> None:
    manifests(tmp_path)
    for changes, message in (
        ({"benchmarks": ["truthfulqa-mc3"]}, "unknown benchmark 'truthfulqa-mc3' .did you mean 'truthfulqa-mc"),
        (
            {"benchmarks": ["falseqa"], "settings": {"falseqa": {"manifest": "manifests/fold-0.json"}}},
            "is of 'truthful",
        ),
        ({"settings": {"truthfulqa-mc1": {"revision": f"sha256:{'0' * 64}"}}}, r"truthfulqa\.csv: wrong revision"),
        ({"settings": {"truthfulqa-mc1": {"data": "none.csv"}}}, r"none\.csv: no such file"),
        ({"settings": {"truthfulqa-mc1": {"data": "../up.csv"}}}, "leaves the study's folder"),
        ({"settings": {"truthfulqa-mc1": {"replicates": 2}}}, "generates nothing"),
    ):
        with pytest.raises(UsageError, match=message):
            plan(spec_of(**changes), tmp_path)


def test_arms_are_points_of_levers_and_of_all_their_draws(tmp_path: Path) -> None:
    turned = {
        "scale": {"operator": "scale", "doses": [0, 0.5, 1, 3]},  # 3: dose 1 is the no-op
        "add": {"operator": "add", "doses": [0, 1, 2]},  # 2: dose 0 is
        "shift": {"operator": "shift", "doses": [-4, 0.0, 4]},  # 2
        "turn": {"efforts": [0.05, 0.1, -0.1]},  # 3
        "sae": {"operator": "sae_delta", "doses": [0, 1.0, 2]},  # 2
        "whole": {"operator": "sae_full", "doses": [0, 1, 2]},  # 3: dose 1 is the reconstruction error
    }
    levers = {name: {"readout": "h", **declared} for name, declared in turned.items()}
    spec = spec_of(
        interventions={**levers, "tell": {"instruction": "Rely on what you know."}},
        controls={"all": {"draws": 4}, "some": {"of": ["scale", "turn"], "draws": 39}},
        benchmarks=["capability-knowledge"],
    )
    made = plan(spec, tmp_path)
    assert made.points == {"scale": 3, "add": 2, "shift": 2, "turn": 3, "sae": 2, "whole": 3, "tell": 1}
    assert made.arms == 16 + 4 * 15 + 39 * (3 + 3)
    assert made.controls == {
        "all": {"of": list(turned), "draws": 4, "smallest_p_two_sided": pytest.approx(2 / 5)},
        "some": {"of": ["scale", "turn"], "draws": 39, "smallest_p_two_sided": pytest.approx(2 / 40)},
    }
    (note,) = [note for note in made.notes if note.startswith("control ")]
    assert note == "control all: 4 draws reach no rank p below 0.4"  # 39 draws are the fewest that reach 5 %
    assert made.calibration_rows == 0
    check_costs(spec, tmp_path, made)


def test_no_op_doses_are_those_of_the_operators() -> None:
    pytest.importorskip("torch", reason="needs levercheck[lm]")
    from levercheck.interventions.operators import OPERATORS

    assert {name: OPERATORS.find(name).noop for name in OPERATORS.names() if name != "sae_full"} == NOOP


def test_rows_of_a_calibration(tmp_path: Path) -> None:
    """Every K x dose and the baseline, on the tune items of the surfaces that it looks at, and of all answers."""
    grid: dict[str, Any] = {"intervention": "scale", "doses": [0, 2, 3], "objective": "capability-knowledge"}
    names = ["capability-knowledge", "capability-text", "capability-instructions"]
    sizes = {one.benchmark: one.items["tune"] for one in plan(spec_of(benchmarks=names), tmp_path).surfaces}
    knowledge, text, instructions = (sizes[name] for name in names)
    assert min(knowledge, text, instructions) > 0

    def rows(benchmarks: Sequence[str], calibrate: dict[str, Any], **more: Any) -> int:
        return plan(spec_of(benchmarks=benchmarks, calibrate=calibrate, **more), tmp_path).calibration_rows

    assert rows(names[:1], grid) == rows(names[:2], grid) == 4 * knowledge
    assert rows(names[:1], {**grid, "ks": [4, 8]}) == 7 * knowledge
    assert rows(names, grid) == 4 * (knowledge + instructions)
    assert rows(names, {**grid, "secondary": "capability-text"}) == 4 * (knowledge + text + instructions)
    assert rows(names[:2], grid, externality={"surfaces": ["capability-text"]}) == 4 * (knowledge + text)
    assert rows(names[:1], grid, items={"limit": 5}) == 4 * 5


def primary(shares: dict[str, float], base: Path) -> Plan:
    return plan(
        spec_of(primary={"benchmark": "truthfulqa-mc1", "margin": 3}, settings={"truthfulqa-mc1": {"shares": shares}}),
        base,
    )


def test_the_smallest_detectable_effect_solves_its_equation(nothing: Path) -> None:
    made = primary({"tune": 0.2, "confirm": 0.8}, nothing)
    assert made.primary is not None and made.primary["margin"] == 3
    assert (made.primary["benchmark"], made.primary["direction"]) == ("truthfulqa-mc1", "either")
    za, zb = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)
    for role, n in (("tune", 164), ("confirm", 654)):
        assert surface(made, "truthfulqa-mc1").items[role] == n
        table = made.primary["detectable_pp"][role]
        assert list(table) == [f"{share:g}" for share in DISCORDANCE] == ["0.05", "0.1", "0.2"]
        for share, points in table.items():
            d, p = points / 100, float(share)
            assert d * math.sqrt(n) == pytest.approx(za * math.sqrt(p) + zb * math.sqrt(p - d * d))
    assert not any("primary comparison" in note for note in made.notes)


def test_what_can_be_detected_rests_on_entities(nothing: Path) -> None:
    """Framings and replicates of one behaviour are no further behaviours."""
    settings = {"shares": {"tune": 0.2, "confirm": 0.8}}
    declared: dict[str, Any] = {"benchmarks": ["jailbreak"], "primary": {"benchmark": "jailbreak"}}
    once, thrice = (
        plan(spec_of(**declared, settings={"jailbreak": {**settings, **more}}), nothing).primary
        for more in ({}, {"replicates": 3})
    )
    assert once is not None and thrice is not None and once["detectable_pp"] == thrice["detectable_pp"]
    for role, n in (("tune", 20), ("confirm", 80)):  # of 100 behaviours
        wanted = {f"{share:g}": mde_paired_proportion(n, share) for share in DISCORDANCE}
        assert once["detectable_pp"][role] == wanted
    assert mde_paired_proportion(80, 0.2) != mde_paired_proportion(400, 0.2)


def test_too_few_items_detect_nothing(data: Path, tmp_path: Path) -> None:
    made = primary({"tune": 0.95, "confirm": 0.05}, tmp_path)  # 38 and 2 items
    assert made.primary is not None
    assert set(made.primary["detectable_pp"]["confirm"].values()) == {None}
    assert "the primary comparison has too few confirm items to detect anything" in made.notes
    none = primary({"tune": 1.0}, tmp_path)
    assert surface(none, "truthfulqa-mc1").items == {"tune": 40, "confirm": 0} and none.primary is not None
    assert set(none.primary["detectable_pp"]["confirm"].values()) == {None}
    assert none.primary["detectable_pp"]["tune"]["0.2"] is not None


def test_what_is_not_declared_is_noted(tmp_path: Path) -> None:
    bare = plan(spec_of(benchmarks=["capability-knowledge"]), tmp_path)
    assert bare.primary is None and bare.controls == {}
    for missing in ("no primary comparison is declared", "no control is declared", "no externality surface is"):
        assert any(note.startswith(missing) for note in bare.notes)
    caution = find_benchmark("capability-knowledge").caution
    assert f"capability-knowledge: {caution}" in bare.notes
    whole = plan(
        spec_of(
            benchmarks=["capability-knowledge", "capability-text"],
            primary={"benchmark": "capability-text"},
            controls={"random": {"draws": 39}},
            externality={"surfaces": ["capability-knowledge"]},
        ),
        tmp_path,
    )
    assert not any(note.startswith("no ") for note in whole.notes)


def test_a_readout_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    spec = spec_of(readouts={"h": "readouts/h"}, benchmarks=["capability-knowledge"])
    assert plan(spec, tmp_path).to_get == ("readout h: fit it, or import it, into readouts/h",)
    (tmp_path / "readouts" / "h").mkdir(parents=True)
    assert plan(spec, tmp_path).to_get == ()


def test_a_prompt_file_and_the_style_are_in_the_plan(data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Tell me: {question}")
    spec = spec_of(benchmarks=["simpleqa/best-guess", "falseqa"], settings={"falseqa": {"prompt_file": "own.txt"}})
    styles = {one.benchmark: one.style for one in plan(spec, tmp_path).surfaces}
    assert styles["simpleqa/best-guess"] == "best-guess" and styles["falseqa"].startswith("file:own.txt@")


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        ({"family": "neurons", "source": "facts:capital"}, None),
        ({"family": "direction"}, None),
        ({"family": "neurons", "source": "nonexist"}, None),
        ({"family": "heads", "source": "truthfulqa-mc2"}, "get TruthfulQA.csv of the repository sylinrl/TruthfulQA"),
        ({"family": "heads", "source": "jailbreak"}, "get data/harmful-behaviors.csv of"),
        ({"family": "neurons", "source": "triviaqa"}, "its source 'triviaqa' is not in the data folder"),
    ],
)
def test_data_of_a_declared_readout(
    nothing: Path, files: Path, monkeypatch: pytest.MonkeyPatch, declared: Any, line: str | None
) -> None:
    spec = spec_of(readouts={"h": declared}, benchmarks=["capability-text"])
    told = plan(spec, nothing).to_get
    assert told == () if line is None else (len(told) == 1 and told[0].startswith(f"readout h: {line}"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(files))
    assert plan(spec, nothing).to_get == ()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            {"family": "neurons", "source": "jsonl:own/q.jsonl"},
            "made from 'own/q.jsonl', which is not there",
        ),
        ({"family": "direction", "source": "pairs.csv"}, "made from 'pairs.csv', which is not there"),
        ({"family": "neurons", "source": "nope"}, "is to be made from 'nope'"),
        ({"family": "heads", "source": "bioasq"}, "is to be made from 'bioasq'"),
        ({"family": "direction", "source": "/etc/host.csv"}, "leaves the study's folder"),
    ],
)
def test_a_readout_from_nowhere_is_refused_before_any_compute(nothing: Path, declared: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        plan(spec_of(readouts={"h": declared}, benchmarks=["capability-text"]), nothing)


def test_files_of_a_declared_readout_are_found_beside_the_study(nothing: Path) -> None:
    (nothing / "own").mkdir()
    (nothing / "own" / "q.jsonl").write_text("")
    (nothing / "pairs.csv").write_text("")
    for declared in (
        {"family": "neurons", "source": "jsonl:own/q.jsonl"},
        {"family": "direction", "source": "pairs.csv"},
    ):
        assert plan(spec_of(readouts={"h": declared}, benchmarks=["capability-text"]), nothing).to_get == ()


def test_data_of_a_declared_readout_are_where_the_study_says(nothing: Path) -> None:
    (nothing / "own.csv").write_text("")
    for source in ("truthfulqa-mc2", "truthfulqa-mc2/chat"):
        heads = {"h": {"family": "heads", "source": source}}
        told = plan(spec_of(readouts=heads, benchmarks=["capability-text"]), nothing).to_get
        assert len(told) == 1 and told[0].startswith("readout h: get TruthfulQA.csv of")
        settings = {source: {"data": "own.csv"}}
        assert plan(spec_of(readouts=heads, benchmarks=["capability-text"], settings=settings), nothing).to_get == ()


@pytest.mark.parametrize("file", ["triviaqa-train.parquet", "triviaqa-train.csv", "triviaqa/train-0.parquet"])
def test_a_split_of_a_source_is_a_file_of_its_name(nothing: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    declared = {"h": {"family": "neurons", "source": "triviaqa", "split": "train"}}
    spec = spec_of(readouts=declared, benchmarks=["capability-text"])
    folder = nothing / "files"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    folder.mkdir()
    (folder / "triviaqa-validation.parquet").write_text("")  # another split
    told = "readout h: its source 'triviaqa' (split train) is not in the data folder, so the hub will be asked"
    assert plan(spec, nothing).to_get == (told,)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("")
    assert plan(spec, nothing).to_get == ()


def test_the_bridge_plans_with_the_file_it_tells_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    path = copied(next(path for path in STUDIES if path.stem == "triviaqa_bridge"), tmp_path)
    assert "save it as triviaqa-validation.parquet/jsonl in" in "\n".join(plan(read_study(path), path.parent).to_get)
    write_triviaqa(tmp_path).rename(tmp_path / "triviaqa-validation.parquet")
    found = plan(read_study(path), path.parent)
    assert surface(found, "triviaqa-bridge").here
    assert [line for line in found.to_get if line.startswith("triviaqa-bridge: ")] == [
        "triviaqa-bridge: draw its manifest into manifests/triviaqa_bridge.json ('levercheck benchmarks manifest')"
    ]


RUNTIMES = """
import sys
found = lambda: sorted({"torch", "transformers", "datasets", "pandas"} & sys.modules.keys())
import levercheck.study.plan
if found():
    sys.exit(f"levercheck.study.plan imports {found()}")
from levercheck.cli.app import main
try:
    main(sys.argv[1:])
except SystemExit as done:
    sys.exit(done.code or (f"levercheck plan imports {found()}" if found() else 0))
"""


def test_a_plan_needs_no_model_runtime(data: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "benchmarks": ["truthfulqa-mc1", "bare-facts"]}))
    command = [sys.executable, "-c", RUNTIMES, "plan", str(tmp_path / "study.yaml"), "--json", "--limit", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    counts = {one["benchmark"]: one["items"] for one in told["surfaces"]}
    assert counts == {name: {"tune": 5, "confirm": 5} for name in ("truthfulqa-mc1", "bare-facts")}
    assert told == json.loads(
        json.dumps(plan(spec_of(benchmarks=list(counts), items={"limit": 5}), tmp_path).to_dict())
    )


def test_the_command_shows_the_plan(nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from levercheck.cli.app import main

    path = copied(next(path for path in STUDIES if path.stem == "jailbreak"), nothing)
    with pytest.raises(SystemExit) as stopped:
        main(["plan", str(path)])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    for part in (
        "gemma3-4b-jailbreak on google/gemma-3-4b-it",
        "points per lever: scale 3; 63 arms with the draws of controls",
        "700*",
        "primary: jailbreak, increase, margin 5 pp",
        "control layer: 20 draws, rank p at best 0.0952",
        "first jailbreak: get data/harmful-behaviors.csv",
    ):
        assert part in shown
