"""The tiny models; a few unlike families stand for all."""

from tests.tiny_models import few as tiny
from tests.tiny_models import known

__all__ = ["known", "tiny"]
