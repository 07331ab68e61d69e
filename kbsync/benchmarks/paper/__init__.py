"""``kbsync bench paper``: the tables and figures of the MEMIT paper (Meng et al. 2023, arXiv 2210.07229) on any model.

An experiment is a function over a `PaperBench` that gives a `Result`, and a line in `run.EXPERIMENTS`.
"""
