"""MEMIT and its baselines behind one interface: requests in, weight deltas out (`Editor`, `Task`).

Each follows its own paper, with its own settings, in a file of its own; `editor` finds it by name.
"""

from kbsync.editors.editor import Deltas, Editor, Task
from kbsync.editors.registry import EDITORS, editor

__all__ = ["EDITORS", "Deltas", "Editor", "Task", "editor"]
