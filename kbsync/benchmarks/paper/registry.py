"""The experiments by name, in the order of tables. A new one is a file of its own, a line here, and its test."""

from kbsync.benchmarks.paper.attention import ATTENTION
from kbsync.benchmarks.paper.categories import CATEGORIES
from kbsync.benchmarks.paper.counterfact import COUNTERFACT
from kbsync.benchmarks.paper.experiment import Experiment
from kbsync.benchmarks.paper.lambdas import LAMBDA
from kbsync.benchmarks.paper.layers import LAYERS
from kbsync.benchmarks.paper.mixture import MIXTURE
from kbsync.benchmarks.paper.scaling import SCALING
from kbsync.benchmarks.paper.stars import STARS
from kbsync.benchmarks.paper.timing import TIME
from kbsync.benchmarks.paper.tracing import TRACE
from kbsync.benchmarks.paper.zsre import ZSRE

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        ZSRE,
        COUNTERFACT,
        SCALING,
        CATEGORIES,
        MIXTURE,
        TRACE,
        LAYERS,
        ATTENTION,
        LAMBDA,
        TIME,
        STARS,
    )
}
