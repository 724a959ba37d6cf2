"""Benchmarks: items, prompts and deterministic scoring."""
