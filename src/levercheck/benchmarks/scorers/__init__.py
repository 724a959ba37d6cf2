"""Deterministic scorers: text in, a label out, each pinned by a ruler name."""
