"""Benchmarks: what kbsync measures of itself, on real models, with the plain or the rival way beside it."""
