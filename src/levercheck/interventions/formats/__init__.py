"""Vector files of other programs: read into sites of ours, written from additions. Nothing is ever unpickled."""

from __future__ import annotations

from levercheck.interventions.formats.dispatch import FORMATS, read_vectors, write_vectors
from levercheck.interventions.formats.vectors import Vector, VectorFile, folded, interventions_of

__all__ = ["FORMATS", "Vector", "VectorFile", "folded", "interventions_of", "read_vectors", "write_vectors"]
