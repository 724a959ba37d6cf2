"""A results folder with one of every fault that the inventory has to find."""

from __future__ import annotations

import json

import polars as pl
import pytest

ABSOLUTE = "/".join(["", "srv", "lab", "results"])


def write_arm(folder, doses, items, positive, drop=()):
    """`alpha_*.jsonl` files: `positive(dose)` of the items are compliant; `drop` are (dose, item) pairs left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for dose in doses:
        rows = [
            {"id": f"q{n}", "compliance": n < positive(dose), "response": f"text {n} at {dose}"}
            for n in range(items)
            if (dose, n) not in drop
        ]
        (folder / f"alpha_{dose}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def messy(tmp_path):
    root = tmp_path / "results"
    main, control = root / "faitheval" / "experiment", root / "faitheval" / "seed_0"
    write_arm(main, ["0.0", "1.0", "3.0"], 40, lambda dose: {"0.0": 21, "1.0": 23, "3.0": 31}[dose], {("3.0", 39)})
    write_arm(control, ["0.0", "3.0"], 40, lambda dose: 19)
    with (main / "alpha_1.0.jsonl").open("a") as handle:
        handle.write(json.dumps({"id": "q3", "compliance": True}) + "\n" + '{"id": "q99", "compl')
    (control / "alpha_high.jsonl").write_text('{"id": "q0", "compliance": true}\nnot json\n{"id": "q1"}\n')
    (control / "alpha_3.jsonl").write_text("".join(json.dumps({"id": f"q{n}"}) + "\n" for n in range(40)))
    record = {
        "script": "run.py",
        "hostname": "lab-machine-7",
        "argv": ["run.py", f"--out={ABSOLUTE}/faitheval"],
        "started_at_utc": "2025-01-01T00:00:00",
        "git_dirty": True,
    }
    (main / "run.provenance.json").write_text(json.dumps({**record, "status": "running"}))
    done = {"schema": "x/provenance", "status": "completed", "outputs": [{"path": "a", "sha256": "0" * 64}]}
    (control / "run.provenance.json").write_text(json.dumps(done))
    (root / "summary.json").write_text(
        json.dumps({"auroc": {"probe": 0.84713}, "slope": 2.0931, "a": {"kappa": 0.611}, "b": {"kappa": 0.611}})
    )
    (root / "copy.json").write_bytes((root / "summary.json").read_bytes())
    (root / "table.csv").write_text("name,share\nfirst,0.3719\nsecond,0.5\n")
    pl.DataFrame({"metric": ["mdd"], "value": [4.4172]}).write_parquet(root / "numbers.parquet")
    (root / "broken.json").write_text('{"a": ')
    (root / "broken.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    (root / "weights.bin").write_bytes(bytes(range(256)))
    outside = tmp_path / "outside.json"
    outside.write_text('{"secret": 77.777}')
    (root / "link.json").symlink_to(outside)
    (root / "linked").symlink_to(tmp_path)
    (root / "report.md").write_text(REPORT)
    return root


REPORT = """# 3. Results of 2025-01-01

Compliance of the faitheval experiment is 52.5% at α = 0 (alpha = 0.0).
The probe reaches an AUROC of 0.847 (see summary.json).
The slope is 2.09 pp per unit dose, 95% CI.
In seed_0 compliance is 47.5% at dose 3 and does not move.
Both raters agree, kappa 0.61.
An earlier study found 71.3% (Doe et al., 2023).
We believe that 88.8% is typical, and 77.777 as well.
Share of the first: 37.2 %; smallest effect 4.42 pp in numbers.parquet.
The test gives p < 0.001.

```
accuracy 99.1%
```

| α | compliance experiment |
|---|---|
| 0.0 | 21 of 40 |
| 3.0 | 66.6% |

Use `--threshold 12.5`, v1.2.3, Figure 4, seed 17 and gemma-3-4b. \x1b[31mRed 55.1%\x1b[0m
"""
