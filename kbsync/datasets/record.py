"""The one type that all data sets are read into."""

from dataclasses import dataclass

from kbsync.facts import EditRequest

__all__ = ["Expected", "Record"]


@dataclass(frozen=True, slots=True)
class Expected:
    """A whole prompt, and the object that is expected after it."""

    prompt: str
    object: str


@dataclass(frozen=True, slots=True)
class Record:
    """One case of a data set. Prompts other than the request's are whole texts; what a data set lacks is empty."""

    request: EditRequest
    """its target is o*; its paraphrases are those in which the subject was found"""
    old: str
    """the object before the edit (o^c)"""
    neighbourhood: tuple[Expected, ...] = ()
    """prompts about other subjects, whose answer must stay"""
    attributes: tuple[str, ...] = ()
    """prompts about other subjects that have the target as their object"""
    generation: tuple[str, ...] = ()
    """beginnings of free text about the subject"""
    portability: tuple[Expected, ...] = ()
    """prompts whose answer follows from the edit"""
