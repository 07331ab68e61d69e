"""The field's data sets of edits (CounterFact, zsRE, KnowEdit), read into one type."""

from kbsync.datasets.formats import FORMATS
from kbsync.datasets.reading import DataSet, open_dataset
from kbsync.datasets.record import Expected, Record

__all__ = ["FORMATS", "DataSet", "Expected", "Record", "open_dataset"]
