"""The study file: every mistake is one line that names the place and the nearest word."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from levercheck.errors import UsageError
from levercheck.study.spec import inside, read_study

GOOD = {
    "study": "two-levers",
    "model": "embedded:smollm2-135m",
    "readouts": {"d": "readouts/d"},
    "interventions": {
        "push": {"readout": "d", "operator": "add", "efforts": [0.05, 0.1]},
        "tell": {"instruction": "Rely on what you know."},
    },
    "controls": {"random": {"of": ["push"], "draws": 20}},
    "benchmarks": ["counterfactual-context", "bare-facts"],
}


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def changed(*keys: str, value: object) -> dict:
    document = copy.deepcopy(GOOD)
    at = document
    for key in keys[:-1]:
        at = at.setdefault(key, {})
    at[keys[-1]] = value
    return document


def test_a_good_file_is_read(tmp_path):
    spec = read_study(written(tmp_path, GOOD))
    assert spec.controlled("random") == ("push",)
    assert spec.interventions["tell"].is_prompt
    assert spec.items.shares["confirm"] == 0.3
    assert spec.fingerprint == read_study(written(tmp_path, GOOD)).fingerprint


def test_changes_replace_and_are_checked_too(tmp_path):
    spec = read_study(written(tmp_path, GOOD), {"items.limit": 7, "controls.random.draws": 3})
    assert (spec.items.limit, spec.controls["random"].draws) == (7, 3)
    with pytest.raises(UsageError, match="unknown key 'limits' in items"):
        read_study(written(tmp_path, GOOD), {"items.limits": 7})
    with pytest.raises(UsageError, match="'model' holds a value"):
        read_study(written(tmp_path, GOOD), {"model.name": "x"})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed("modle", value="x"), "unknown key 'modle' \\(did you mean 'model'"),
        (
            changed("controls", "random", "draw", value=5),
            "unknown key 'draw' in controls.random \\(did you mean 'draws'",
        ),
        (changed("interventions", "push", "readout", value="e"), "turns 'e'"),
        (changed("interventions", "push", "doses", value=[1]), "either doses or efforts"),
        (changed("interventions", "push", "efforts", value=[0.1, 0.1]), "a value twice"),
        (changed("interventions", "push", "efforts", value=[0]), "an effort of 0 is the baseline"),
        (changed("interventions", "push", "efforts", value=[float("nan")]), "finite number"),
        (changed("interventions", "tell", "readout", value="d"), "either a readout to turn or an instruction"),
        (changed("interventions", "tell", "k", value=3), "an instruction has no operator"),
        (changed("interventions", "push/../x", value={"instruction": "a"}), "use letters, digits"),
        (changed("controls", "random", "of", value=["tell"]), "is of 'tell' \\(did you mean|is of 'tell' \\(valid"),
        (changed("controls", "random", "draws", value=0), "greater than or equal to 1"),
        (changed("primary", value={"benchmark": "bare"}), "'bare' is not among the benchmarks"),
        (changed("externality", value={"surfaces": ["x"]}), "'x' is not among the benchmarks"),
        (changed("items", value={"shares": {"tune": 0.5, "confirm": 0.4}}), "sum to 1"),
        (changed("items", value={"shares": {"tunes": 1.0}}), "unknown role 'tunes'"),
        (changed("study", value="../up"), "study is '../up'"),
        (changed("calibrate", value={"intervention": "pish", "doses": [1], "objective": "bare-facts"}), "'pish'"),
        (changed("interventions", "baseline", value={"instruction": "a"}), "'baseline' is reserved"),
        (changed("controls", "../../up", value={"draws": 2}), "use letters, digits"),
        (changed("controls", "[/b]", value={"draws": 2}), "use letters, digits"),
        (changed("benchmarks", value=["bare-facts", "bare-facts"]), "benchmarks holds a value twice"),
        (
            changed("calibrate", value={"intervention": "push", "doses": [1, 1], "objective": "x"}),
            "doses holds a value",
        ),
        (changed("primary", value={"benchmark": "bare-facts", "margin": float("inf")}), "finite number"),
        (changed("effort", value={"largest": float("inf")}), "finite number"),
        (["a", "list"], "holds list, expected keys"),
    ],
)
def test_mistakes_are_one_line(tmp_path, document, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_study(written(tmp_path, document))
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_file_is_said(tmp_path):
    with pytest.raises(UsageError, match="does not exist: expected a study file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(UsageError, match="not valid YAML at line"):
        read_study(tmp_path / "bad.yaml")


def test_a_file_of_nothing_but_brackets(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"'deep\.yaml' is nested too deeply: expected a study file"):
        read_study(tmp_path / "deep.yaml")


def test_yaml_cannot_make_objects(tmp_path):
    (tmp_path / "evil.yaml").write_text("study: !!python/object/apply:os.system ['true']")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_study(tmp_path / "evil.yaml")


@pytest.mark.parametrize("path", ["../other", "a/../../b", "/etc/passwd"])
def test_paths_stay_inside_the_study(tmp_path, path):
    with pytest.raises(UsageError, match="leaves the study's folder"):
        inside(tmp_path, path)
    assert inside(tmp_path, "readouts/d") == (tmp_path / "readouts/d").resolve()
