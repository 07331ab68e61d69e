"""General ability: tasks of lm-evaluation-harness on a model as it is.

A task is a name that the harness knows, or a YAML file in its form; such a file's folder may hold others that it names.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kbsync.errors import KbsyncError, SettingsError, foreign
from kbsync.metrics import Figure
from kbsync.metrics.intervals import DRAWS
from kbsync.models import LoadedModel
from kbsync.sync.guards import TASK
from kbsync.sync.home import Progress

PREFERRED = ("acc_norm", "acc", "exact_match", "f1")
"""a task's figure is the first of these that it has, else its first one"""
BATCH = 16
Z = 1.96
"""standard errors to either side of a mean in a 95% interval"""


class Tasks:
    """Named tasks, checked when this is made, so that a wrong name shows before a model is loaded."""

    def __init__(self, names: Sequence[str], limit: int | None = None) -> None:
        """Take `limit` questions of each task (None: all)."""
        try:
            from lm_eval.tasks import TaskManager
        except ModuleNotFoundError as error:
            raise SettingsError("--tasks needs the package lm-eval: pip install 'kbsync[eval]'") from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        files = [Path(name) for name in names if name.endswith((".yaml", ".yml"))]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise SettingsError(f"--tasks {', '.join(missing)}: there is no such file")
        with foreign(told):
            self.manager: TaskManager = TaskManager(
                include_path=[str(file.parent) for file in files] or None, include_defaults=len(files) < len(names)
            )
        self.names = [str(file) for file in files]
        others = [name for name in names if name not in self.names]
        if unknown := [name for name in others if name not in self.manager.all_tasks]:
            raise SettingsError(f"--tasks {', '.join(unknown)}: lm-evaluation-harness has no such task, group or tag")
        self.names += others
        self.limit = limit

    def figures(self, loaded: LoadedModel, progress: Progress) -> dict[str, Figure]:
        """Return each task's figure, in percent where it is a share, with an interval by its standard error."""
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        if not self.names:
            return {}
        progress("tasks", 0, len(self.names))
        with foreign(told):
            model = HFLM(
                pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=BATCH, device=str(loaded.device)
            )
            found: Any = simple_evaluate(
                model,
                tasks=list(self.names),
                limit=self.limit,
                bootstrap_iters=DRAWS,
                task_manager=self.manager,
                log_samples=False,
            )
        progress("tasks", len(self.names), len(self.names))
        counts = {name: sizes["effective"] for name, sizes in found["n-samples"].items()}
        return dict(figure for name, one in found["results"].items() for figure in figure_of(name, one, counts))


def figure_of(name: str, found: dict[str, Any], counts: dict[str, int]) -> list[tuple[str, Figure]]:
    """Return a task's figure by its name; none where it has no number."""
    values = {
        key.split(",")[0]: (value, found.get(key.replace(",", "_stderr,", 1)))
        for key, value in found.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float)
    }
    metric = next((one for one in (*PREFERRED, *values) if one in values), None)
    if metric is None:
        return []
    value, error = values[metric]
    scale = 100.0 if 0 <= value <= 1 else 1.0
    half = Z * error * scale if isinstance(error, int | float) and math.isfinite(error) else math.nan
    mean = value * scale
    return [(f"{TASK}{name}.{metric}", Figure(mean, mean - half, mean + half, counts.get(name, 0)))]


def told(reason: str) -> KbsyncError:
    return SettingsError(f"--tasks: lm-evaluation-harness could not do this: {reason}")
