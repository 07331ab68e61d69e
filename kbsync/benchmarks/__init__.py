"""Benchmarks: what kbsync measures of itself, on real models, with the plain way or the baselines beside it."""
