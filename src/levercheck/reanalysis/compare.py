"""Results against expected statistics: does each number agree to the last digit that was printed?

A golden record has an `id`, a full-precision `value` and `ci`, and what a publication printed (`published_value`,
`published_ci`). `agrees_to_last_digit` says whether the publication follows from the rows. The rules:

- *agree*: value and interval equal the published figures to their last printed digit; or, where the publication does
  not follow from the rows (or printed nothing), they equal the full-precision recomputation. A figure that was
  published with full precision must be met to nine digits. An interval that was never published is compared with
  the recomputed one, when there is one and the result has an interval too.
- *tolerance*: the value is right and the interval lies within `mc_ci_tol` of either; or a p-value from random
  permutations lies within four standard errors of its Monte-Carlo noise.
- *disagree*: anything else. *absent*: no result has this id.
"""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.files import read_json

Status = Literal["agree", "tolerance", "disagree", "absent"]
Ends = tuple[float, float]
_EXACT = 1e-9
_MANY = 9
"""A figure with more decimals than this was published with full precision."""


def compare_files(results: Path, golden: Path) -> dict[str, Any]:
    """Compare stored results (a file, or the directory that holds results.json) with a golden file."""
    path = results / "results.json" if results.is_dir() else results
    documents = []
    for place in (path, golden):
        if not place.is_file():
            raise UsageError(f"'{place}' does not exist: expected a JSON file")
        documents.append(read_json(place))
    if not isinstance(documents[0], dict) or "entries" not in documents[0]:
        raise UsageError(f"'{path}' has no entries: expected the results of levercheck reanalyze")
    return compare(documents[0], documents[1])


def compare(results: dict[str, Any], golden: Any) -> dict[str, Any]:
    """Status of every golden record: `{"counts": {status: number}, "entries": [...]}`."""
    records = golden.get("entries", golden) if isinstance(golden, dict) else golden
    if isinstance(records, dict):
        records = [{"id": name, **record} for name, record in records.items()]
    if not isinstance(records, list) or not all(isinstance(r, dict) and "id" in r and "value" in r for r in records):
        raise IntegrityError("the golden file is not a list of records with id and value")
    counts: dict[Status, int] = {"agree": 0, "tolerance": 0, "disagree": 0, "absent": 0}
    entries = []
    for record in records:
        entry = _entry(record, results["entries"].get(record["id"]), results.get("not_expressible", {}))
        counts[entry["status"]] += 1
        entries.append(entry)
    return {"counts": counts, "entries": entries}


def _entry(record: dict[str, Any], result: dict[str, Any] | None, excused: dict[str, str]) -> dict[str, Any]:
    published = {"value": record.get("published_value"), "ci": record.get("published_ci")}
    entry: dict[str, Any] = {
        "id": record["id"],
        "expected": {"value": record["value"], "ci": record.get("ci")},
        "published": published,
        "publication_follows": record.get("agrees_to_last_digit"),
    }
    if result is None:
        reason = excused.get(record["id"], "no result has this id")
        return {**entry, "status": "absent", "value": None, "ci": None, "reason": reason}
    own = None if result.get("low") is None else (result["low"], result["high"])
    own = _same_scale(own, result, published["ci"] or record.get("ci"))
    status, reason = _judge(record, result, own)
    return {
        **entry,
        "status": status,
        "value": result["value"],
        "ci": None if own is None else list(own),
        "reason": reason,
    }


def _same_scale(own: Ends | None, result: dict[str, Any], expected: Any) -> Ends | None:
    """The interval of a count, as a share, when the expected interval is one."""
    if own is None or expected is None or not result.get("method", "").startswith("count") or not result.get("n"):
        return own
    return (own[0] / result["n"], own[1] / result["n"]) if expected[1] <= 1 else own


def _judge(record: dict[str, Any], result: dict[str, Any], own: Ends | None) -> tuple[Status, str]:
    value, expected, published = result["value"], record["value"], record.get("published_value")
    if value is None:
        return "disagree", f"not estimable: {result.get('note') or 'no reason given'}"
    if expected is None and published is None:
        return "absent", "the golden file holds no value"
    follows = published is not None and (record.get("agrees_to_last_digit") is True or expected is None)
    value_fits = _printed(value, published, expected) if follows else _exact(value, expected)
    if not value_fits:
        noise = None if expected is None else _permutation_noise(result, expected)
        if noise is not None and abs(value - expected) <= noise:
            return "tolerance", f"p differs by {abs(value - expected):.2g}, Monte-Carlo noise {noise:.2g}"
        return "disagree", f"value {value:.6g}, expected {published if follows else expected:.6g}"
    recomputed, printed = record.get("ci"), record.get("published_ci")
    if own is None:
        if printed is not None and follows:
            return "disagree", "the result has no interval, one was published"
        return "agree", "value" if recomputed is None else "value; the result has no interval"
    if recomputed is None and printed is None:
        return "agree", "value; no interval is expected"
    if printed is not None and all(map(_printed, own, printed, recomputed or (None, None))):
        return "agree", "value and interval, to the last printed digit"
    if recomputed is not None and all(map(_exact, own, recomputed)) and not (follows and printed is not None):
        return "agree", "value and interval, with full precision of the recomputation"
    allowed = record.get("mc_ci_tol")
    gaps = [
        max(abs(a - b) for a, b in zip(own, target, strict=True))
        for target in (recomputed, printed)
        if target is not None
    ]
    if allowed is not None and min(gaps) <= allowed * (1 + _EXACT) + 1e-12:
        return "tolerance", f"interval ends within {min(gaps):.3g}, allowed {allowed:.3g}"
    return "disagree", f"interval [{own[0]:.6g}, {own[1]:.6g}] is off by {min(gaps):.3g}, allowed {allowed}"


def _exact(value: float, expected: float | None) -> bool:
    return expected is not None and math.isclose(value, expected, rel_tol=_EXACT, abs_tol=1e-12)


def _printed(value: float, published: float | None, recomputed: float | None) -> bool:
    """Whether `value` rounds to the published figure; whole numbers and full precision must be met exactly."""
    if published is None:
        return False
    exponent = int(Decimal(repr(published)).normalize().as_tuple().exponent)
    if exponent < -_MANY or (exponent >= 0 and _exact(published, recomputed)):
        return _exact(value, published)
    return abs(value - published) <= 0.5 * 10.0 ** min(0, exponent) * (1 + 1e-6)


def _permutation_noise(result: dict[str, Any], expected: float) -> float | None:
    """Four standard errors of the difference of two Monte-Carlo p-values with this many permutations."""
    if result.get("unit") != "p" or not result.get("resamples") or not 0 < expected < 1:
        return None
    return 4 * math.sqrt(2 * expected * (1 - expected) / result["resamples"])
