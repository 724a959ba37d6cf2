"""`levercheck steer`."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from levercheck.cli.console import Stages, output
from levercheck.cli.lever_options import ByOption, DtypeOption, KOption, LayersOption, OperatorOption, UnitOption
from levercheck.cli.steer_view import shown
from levercheck.errors import UsageError

if TYPE_CHECKING:
    from levercheck.cli.steer_session import Session


def steer(
    model: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    readout: Annotated[
        tuple[Path, ...],
        Parameter(negative="", help="Folder of a readout, a saved intervention or an imported vector; again for more."),
    ],
    dose: Annotated[
        tuple[float, ...], Parameter(negative="", help="Dose in the operator's own unit, one per --readout.")
    ],
    scope: Annotated[
        str | None, Parameter(help="Positions: all, prompt, decode or first_N; default all, or the saved one.")
    ] = None,
    operator: OperatorOption = None,
    unit: UnitOption = None,
    layers: LayersOption = None,
    k: KOption = None,
    by: ByOption = "auroc",
    max_new_tokens: Annotated[int, Parameter(name="--max", help="Tokens per answer.", validator=Number(gte=1))] = 80,
    chat: Annotated[
        bool | None, Parameter(help="Wrap prompts in the chat template; default where there is one.")
    ] = None,
    prompt: Annotated[str | None, Parameter(help="Answer this prompt and leave.")] = None,
    dtype: DtypeOption = "float32",
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="With --prompt: print JSON on stdout.")] = False,
) -> int:
    """Feel a lever: type a prompt, read the unsteered and the steered answer side by side as they are written.

    Both run in one batch; the receipt says how far the activations were moved. Commands in the session: /dose 3,
    /scope decode, /max 80, /chat off, /help, /quit. Ctrl-C stops an answer, Ctrl-D leaves.

    Example: levercheck steer embedded:smollm2-135m --readout runs/facts/probes/h --dose 3
    """
    if len(dose) != len(readout):
        raise UsageError(f"{len(dose)} doses for {len(readout)} readouts: give one --dose for each --readout")
    if json_ and prompt is None:
        raise UsageError("--json needs --prompt: a session is for reading")
    from levercheck.cli.steer_session import Session
    from levercheck.interventions.scopes import parse_scope
    from levercheck.lm.model import load_model
    from levercheck.sweep.levers import intervention_of

    asked = None if scope is None else parse_scope(scope)
    for folder in readout:
        if not folder.is_dir():
            raise UsageError(f"no folder at '{folder}', expected a readout or a saved intervention")
    stages = Stages()
    stages.notify(f"loading {model}")
    lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
    options: dict[str, Any] = {"operator": operator, "unit": unit, "k": k, "by": by}
    options["layers"] = None if layers is None else list(layers)
    levers = [intervention_of(lm, folder, **options) for folder in readout]
    if asked is not None:
        levers = [replace(lever, scope=asked) for lever in levers]
    session = Session(lm, levers, list(dose), max_new_tokens, chat)
    if prompt is not None:
        return _once(session, prompt, json_)
    return _converse(session)


def _once(session: Session, prompt: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps(session.report(prompt), allow_nan=False))  # ASCII: model text cannot drive the terminal
        return 0
    output.print(session.heading, markup=False, soft_wrap=True)
    shown(session.answers(prompt))
    return 0


def _converse(session: Session) -> int:
    import signal

    asking = "> " if sys.stdin.isatty() else ""
    if asking:
        with suppress(ImportError):
            import readline  # noqa: F401  # arrow keys and history at the prompt
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # here KeyboardInterrupt stops an answer, not the program
    try:
        output.print(session.heading, markup=False, soft_wrap=True)
        while _turn(session, asking):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _turn(session: Session, asking: str) -> bool:
    """One line of a session; False to leave."""
    try:
        line = input(asking).strip()
    except EOFError:
        output.print()
        return False
    except KeyboardInterrupt:
        output.print("\nCtrl-D or /quit leaves")
        return True
    try:
        if line.startswith("/"):
            said = session.command(line)
            if said is None:
                return False
            output.print(said, markup=False, soft_wrap=True)
        elif line:
            shown(session.answers(line))
    except UsageError as error:
        output.print(str(error), markup=False, style="red", soft_wrap=True)
    except KeyboardInterrupt:
        output.print("stopped")
    return True
