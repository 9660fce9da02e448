"""Benchmarks: the engine beside the tools people know, on one reference image. `python -m tests.bench --help`."""
