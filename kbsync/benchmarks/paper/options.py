"""What a user asks of `bench paper`, and the bench that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbsync.benchmarks.paper.bench import PaperBench, PaperData
from kbsync.benchmarks.paper.experiment import Experiment
from kbsync.benchmarks.paper.registry import EXPERIMENTS
from kbsync.benchmarks.paper.sizes import FULL, QUICK
from kbsync.benchmarks.paper.units import Units
from kbsync.editors import EDITORS
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.progress import Progress

__all__ = ["PaperOptions", "check_editors", "chosen_experiments", "make_bench"]


@dataclass(frozen=True, slots=True)
class PaperOptions:
    """What the user asks for."""

    experiments: tuple[str, ...]
    """names; none means all"""
    editors: tuple[str, ...]
    """names; none means all (with `quick`, MEND only where its network is there already)"""
    data: PaperData
    folder: Path
    """of the results"""
    edits: int | None = None
    quick: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    corpus: Path | None = None


def make_bench(
    ledger: Ledger, choice: ModelChoice, options: PaperOptions, units: Units, progress: Progress
) -> PaperBench:
    """Return the bench that the options ask for; raises as `Sizes.with_edits` and `identify` do."""
    sizes = (QUICK if options.quick else FULL).with_edits(options.edits)
    bench = PaperBench(ledger, choice, options.data, sizes, options.editors or tuple(EDITORS), units, progress)
    if options.quick and not options.editors and not bench.has_network():
        bench.editors.remove("mend")  # its training takes longer than all else of a quick run
    return bench


def chosen_experiments(names: Sequence[str]) -> list[Experiment]:
    """Return the named experiments, all where none is named, in the registry's order; SettingsError for a wrong one."""
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise SettingsError(f"there is no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    return [experiment for name, experiment in EXPERIMENTS.items() if not names or name in names]


def check_editors(names: Sequence[str]) -> None:
    """Raise SettingsError for a name that is no editor's."""
    unknown = [name for name in names if name not in EDITORS]
    if unknown:
        raise SettingsError(f"there is no editor {', '.join(unknown)}; there are {', '.join(EDITORS)}")
