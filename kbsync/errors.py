"""The errors that kbsync tells its user about.

    KbsyncError                 exit 1: one message that says where and what to do
    ├── SourceError             a knowledge base could not be read; carries the query where there was one
    │   └── WithdrawalsError    it suddenly says much less than before; exit 3, as of ``--check``
    ├── DataSetError            a data set of edits cannot be read, or has bad records
    ├── TemplateError           a template file is wrong, or a relation has none
    ├── ConflictError           contradictory requests under ``--on-conflict error`` (Eqn. 5)
    ├── SettingsError           a setting, preset or model name that does not exist or does not fit
    ├── ModelError              a model cannot be loaded, is of an unknown family, or has changed
    ├── EditError               the editing itself failed; the state before stays
    ├── WriteError              a file cannot be written: the path, the reason, how much room there is
    └── LedgerError             the ledger cannot be opened, read or written
        └── LedgerBusyError     another process is changing a model's state

The command line turns each into ``Error: message`` on stderr (`kbsync.cli.main`). Anything else is a fault of
kbsync's own and keeps its traceback under ``--debug``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class KbsyncError(Exception):
    """An error in the user's input or environment, told in a line or two."""


class SourceError(KbsyncError):
    """A knowledge base could not be read."""

    def __init__(self, message: str, *, query: str | None = None) -> None:
        super().__init__(message)
        self.query = query


class WithdrawalsError(SourceError):
    """A pull would withdraw more than its bound; nothing was recorded."""


class DataSetError(KbsyncError):
    """A data set of edits cannot be read, or has bad records."""


class TemplateError(KbsyncError):
    """A template file is wrong, or a relation has no template."""


class ConflictError(KbsyncError):
    """Contradictory requests where the user asked for none (Eqn. 5)."""


class SettingsError(KbsyncError):
    """A setting, preset or model name that does not exist or does not fit."""


class ModelError(KbsyncError):
    """A model cannot be loaded, is of an unknown family, or is not the one that was edited."""


class EditError(KbsyncError):
    """The editing failed; the state before it stays."""


class WriteError(KbsyncError):
    """A file or folder cannot be written."""


class LedgerError(KbsyncError):
    """The ledger cannot be opened, read or written."""


class LedgerBusyError(LedgerError):
    """Another process holds the writer's lock."""


@contextmanager
def foreign(as_error: Callable[[str], KbsyncError]) -> Iterator[None]:
    """Run code that is not kbsync's and fails in ways of its own: a chat template, a model never seen, a hub's client.

    Whatever it raises becomes what `as_error` makes of the reason, in one line. Errors of kbsync pass, and so does what
    ends the program.
    """
    try:
        yield
    except KbsyncError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        raise as_error(" ".join(str(error).split())[:300]) from error
