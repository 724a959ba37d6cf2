"""`levercheck lock` and `levercheck items`: freezing a study, and the questions of one of its roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from levercheck.cli.console import Stages, clean, output
from levercheck.cli.declared import prepare
from levercheck.cli.study_options import (
    DeviceOption,
    JsonOption,
    LimitOption,
    OutOption,
    SetOption,
    StudyFile,
    open_file,
)
from levercheck.errors import UsageError
from levercheck.study.lock import CALIBRATION


def lock(
    study: StudyFile,
    /,
    *,
    out: OutOption = None,
    k: Annotated[
        int | None, Parameter(help="K to deploy instead of the rule's choice.", validator=Number(gte=1))
    ] = None,
    dose: Annotated[float | None, Parameter(help="Dose to deploy instead of the rule's choice.")] = None,
    reason: Annotated[str | None, Parameter(help="Why the rule's choice is overridden; goes into the lock.")] = None,
    replace: Annotated[
        bool, Parameter(negative="", help="Archive another lock that never opened the confirm items.")
    ] = False,
    limit: LimitOption = None,
    set_: SetOption = (),
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> int:
    """Freeze a study before its confirm items are opened: spec, model, levers, control draws, doses, items, code.

    lock.json gets a digest over all of it. 'levercheck run STUDY --confirm' makes everything anew, compares, and opens
    the confirm items once. A calibrated study deploys the cell its rule chose, or a calibrated pair that --k and --dose
    name with a --reason.

    Example: levercheck lock study.yaml --out runs/two-levers
    """
    from levercheck.evidence.folder import claimed
    from levercheck.sweep.confirm import Choice, lock_study, unknown_items
    from levercheck.sweep.run_study import STUDY

    if dose is None and (k is not None or reason is not None):
        raise UsageError("--k and --reason override the rule's choice together with --dose: give all or none")
    if dose is not None and not (reason or "").strip():
        raise UsageError("--dose overrides the rule's choice: say why with --reason")
    opened, stages = open_file(study, out, set_, limit), Stages()
    if opened.spec.calibrate is None and dose is not None:
        raise UsageError(f"--dose chooses from a calibrated grid, and '{study.name}' has no calibrate section")
    if opened.spec.calibrate is not None and not (opened.root / CALIBRATION).is_file():
        raise UsageError(f"'{opened.root}' has no {CALIBRATION}: run 'levercheck calibrate' before the lock")
    lm = opened.load(stages, device)
    override = None if dose is None else Choice(k, dose, reason)
    with claimed(opened.root, STUDY):
        prepare(opened, lm, stages)
        made, is_new = lock_study(
            opened.spec, opened.base, opened.root, lm, stages,
            override=override, replace_old=replace, notify=stages.notify,
        )  # fmt: skip
    frozen = made.frozen
    if json_:
        print(
            json.dumps(
                {"out": str(opened.root), "digest": made.digest, "new": is_new, "frozen": frozen},
                ensure_ascii=False,
                allow_nan=False,
            )
        )
        return 0
    output.print(f"{'locked' if is_new else 'locked already, with the same content'}: {made.short}", style="bold green")
    chosen = frozen["chosen"]
    if chosen is not None:
        at = f"dose {chosen['dose']:g}" if chosen["k"] is None else f"K {chosen['k']}, dose {chosen['dose']:g}"
        why = "by the rule" if chosen["by"] == "rule" else f"by override: {clean(chosen['reason'])}"
        output.print(f"chosen  {chosen['intervention']} at {at}, {why}", markup=False, soft_wrap=True)
    drawn = sum(1 for name in frozen["interventions"] if "." in name)
    output.print(
        f"levers  {len(frozen['interventions']) - drawn} and {drawn} control draws, {len(frozen['arms'])} arms"
    )
    for name, facts in frozen["benchmarks"].items():
        output.print(f"items   {clean(name)}: {len(facts['items'])} of {facts['clusters']} entities", markup=False)
    for name in frozen["unreached"]:
        output.print(f"missing {clean(name)}: no dose reaches it", markup=False)
    for name in unknown_items(made):
        output.print(
            f"unknown whether readout {clean(name)} was made from confirm items", style="bold yellow", markup=False
        )
    if frozen["primary"] is None:
        output.print("note: no primary comparison is declared, so no margin is frozen", style="yellow")
    return 0


def items(
    study: StudyFile,
    /,
    *,
    role: Annotated[Literal["readout", "select", "tune", "confirm"], Parameter(help="Whose questions to write.")],
    out: Annotated[Path, Parameter(help="New file, .jsonl: one question per line.")],
    limit: LimitOption = None,
    set_: SetOption = (),
    json_: JsonOption = False,
) -> int:
    """Write the embedded questions of one role of a study, for 'levercheck collect jsonl:FILE'.

    A readout that is made from role readout has seen no entity that is asked later. The ids and entities go beside it,
    to FILE with the ending .items.json: put that file into the readout's folder as items.json, so that a lock can check
    it. Needs no model unless a benchmark brings items of its own.

    Example: levercheck items study.yaml --role readout --out readout-questions.jsonl
    """
    from levercheck.benchmarks.base import find_benchmark
    from levercheck.benchmarks.embedded import facts
    from levercheck.benchmarks.roles import entity_roles, own_items
    from levercheck.evidence.files import write_atomic, write_json
    from levercheck.study.uses import uses_of

    opened = open_file(study, None, set_, limit)
    listing = out.with_suffix(".items.json")
    if out.suffix != ".jsonl":
        raise UsageError(f"--out {out.name}: expected a name that ends in .jsonl")
    for path in (out, listing):
        if path.exists():
            raise UsageError(f"'{path}' exists: give another --out, or remove it")
    spec, first_token = opened.spec, None
    uses = uses_of(spec, opened.base)
    if any(find_benchmark(use.name).kind == "choice" for use in own_items(uses)):
        first_token = opened.load(Stages()).answer_token
    roles = entity_roles(uses, spec.items.shares, spec.seed, first_token or (lambda _: 0))
    chosen = [fact for fact in facts().values() if roles[fact.entity] == role]
    if not chosen:
        raise UsageError(f"role {role} has no question in this study: give it a share (items.shares)")
    lines = [
        json.dumps(
            {
                "id": fact.id,
                "question": fact.question,
                "aliases": list(fact.aliases),
                "category": fact.category,
                "entity": fact.entity,
            },
            ensure_ascii=False,
        )
        for fact in chosen
    ]
    write_atomic(out, "".join(f"{line}\n" for line in lines).encode())
    clusters = sorted({fact.entity for fact in chosen})
    write_json(listing, {"ids": sorted(fact.id for fact in chosen), "clusters": clusters})
    if json_:
        told = {
            "out": str(out),
            "items": str(listing),
            "role": role,
            "questions": len(chosen),
            "entities": len(clusters),
        }
        print(json.dumps(told, ensure_ascii=False))
        return 0
    output.print(f"{len(chosen)} questions of {len(clusters)} entities in role {role}")
    for what, path in (("questions", out), ("items", listing)):
        output.print(f"{what:<9} {clean(str(path))}", markup=False, soft_wrap=True)
    return 0
