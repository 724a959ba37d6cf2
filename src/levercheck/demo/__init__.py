"""The embedded study: one real model, real facts, every room of the house used once, in order."""
