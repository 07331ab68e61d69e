"""The tiny models. Comparing with the plain way takes long, so `tiny` is here a few unlike families."""

from tests.tiny_models import few as tiny
from tests.tiny_models import known
from tests.tiny_models import tiny as every_family

__all__ = ["every_family", "known", "tiny"]
