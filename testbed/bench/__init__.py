"""Benchmarks: each figure beside that of its rivals, measured in the same call."""
