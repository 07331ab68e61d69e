"""The field's data sets of edits (CounterFact, zsRE, KnowEdit), read into one type."""

from kbsync.datasets.formats import FORMATS, Expected, Record
from kbsync.datasets.reading import DataSet, open_dataset

__all__ = ["FORMATS", "DataSet", "Expected", "Record", "open_dataset"]
