"""Facts from a data set of edits (CounterFact, zsRE, KnowEdit): what its records ask for, in their own words.

A fact is a record's subject, relation and new object, with the record's prompt and paraphrases in place of the
relation's template. zsRE and KnowEdit name no relation: all their facts are of ``zsRE`` or ``KnowEdit``, so that two
records about one subject with different objects are a conflict.
"""

from collections.abc import Iterator
from pathlib import Path

from kbsync.datasets import DataSet, open_dataset
from kbsync.facts import Entity, Fact, Wording
from kbsync.files import Unchanged
from kbsync.sources.base import Ask, Notes, Reading, clean
from kbsync.sources.file_facts import check_ask, chosen

__all__ = ["DataSetFile"]


class DataSetFile:
    """A data set's file, gone through at each reading; of its records only the facts asked for are held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = Unchanged(path)
        self.name = str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises DataSetError with the bad records, and SettingsError for --class."""
        check_ask(ask, self._path, "a data set")
        with self._state.reading():
            data = open_dataset(self._path)
            facts, skipped = chosen(_facts(data), ask, Notes())
        if data.unplaced:
            skipped += (f"prompt that does not name its subject: {data.unplaced}",)
        return Reading(self.name, None, facts, skipped)


def _facts(data: DataSet) -> Iterator[Fact]:
    for record in data:
        request = record.request
        subject, thing = clean(request.subject), clean(request.target)
        if subject and thing:
            yield Fact(
                Entity(subject), request.relation, Entity(thing), wording=Wording(request.prompt, request.paraphrases)
            )
