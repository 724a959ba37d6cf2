"""Re-derive a study from its rows: an analysis file names the estimates, this room makes and compares them."""

from __future__ import annotations

from levercheck.reanalysis.compare import compare
from levercheck.reanalysis.run import reanalyze, verify, write
from levercheck.reanalysis.spec import read_analysis

__all__ = ["compare", "read_analysis", "reanalyze", "verify", "write"]
