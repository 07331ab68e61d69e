"""The tiny models: `tiny` is here a few unlike families."""

from tests.tiny_models import few as tiny
from tests.tiny_models import known

__all__ = ["known", "tiny"]
