"""The `levercheck` program: commands, exit codes, one-line errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import cyclopts
from cyclopts.exceptions import CycloptsError

from levercheck import __version__
from levercheck.cli import (
    attribution,
    audit_readout,
    bake,
    benchmarks,
    calibrate,
    controls,
    demo,
    detect,
    direction,
    heads,
    importing,
    interop,
    inventory,
    lock,
    neurons,
    plan,
    reanalyze,
    run,
    sae,
    steer,
    vectors,
    verify,
)
from levercheck.cli.console import clean, errors
from levercheck.errors import LevercheckError

HELP = """Decide whether an internal readout of a language model is a lever: detection is not enough.

Exit codes: 0 done; 1 a check failed; 2 wrong request; 3 something must be fetched or installed first; 4 not enough
data; 5 damaged data; 130 interrupted (finished work is kept, the same command continues).
"""

INSTALLS = {
    **dict.fromkeys(("torch", "transformers", "safetensors", "accelerate", "gguf"), "levercheck[lm]"),
    **dict.fromkeys(("altair", "vl_convert", "jinja2", "markupsafe"), "levercheck[report]"),
    "httpx": "levercheck[api]",
    "sklearn": "scikit-learn",
    "datasets": "datasets",
}
"""What to install for an optional package."""

app = cyclopts.App(
    name="levercheck",
    help=HELP,
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,  # ours says that finished work is kept
)
app.command(demo.demo)
app.command(verify.verify)
app.command(detect.collect)
app.command(detect.spans)
app.command(detect.split)
app.command(detect.capture)
app.command(detect.probe)
app.command(audit_readout.audit_readout)
app.command(audit_readout.h_neurons)
app.command(neurons.neurons)
app.command(direction.app)
app.command(heads.app)
app.command(sae.app)
app.command(interop.import_h_neurons)
app.command(interop.export_h_neurons)
app.command(reanalyze.reanalyze)
app.command(reanalyze.compare)
app.command(importing.import_, name="import")
app.command(inventory.inventory)
app.command(attribution.attribution)
app.command(controls.app)
app.command(steer.steer)
app.command(bake.bake)
app.command(vectors.import_vector)
app.command(vectors.export_vector)
app.command(calibrate.calibrate)
app.command(lock.lock)
app.command(plan.plan)
app.command(run.run)
app.command(benchmarks.app)
app.command(lock.items)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(tokens)
    except LevercheckError as error:
        code = _fail(str(error), error.exit_code)
    except CycloptsError as error:
        first = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), "the command is not understood"
        )
        code = _fail(f"{first} See 'levercheck --help'.", 2)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in INSTALLS:
            raise
        code = _fail(
            f"this needs {package}, which is not installed or does not fit: pip install '{INSTALLS[package]}'", 3
        )
    except KeyboardInterrupt:
        code = _fail("interrupted: finished work is kept; run the same command again to continue", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "out of memory" not in str(error).lower():
            raise
        code = _fail("out of memory: close other programs or use a smaller model; the same command continues", 4)
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        code = _fail(
            f"{error.strerror or error}{where}: free space or give another place, then run the same command again", 2
        )
    sys.exit(code or 0)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    errors.print(f"levercheck: {clean(message)}", markup=False, highlight=False, soft_wrap=True)
    return code
