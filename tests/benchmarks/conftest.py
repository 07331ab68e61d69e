"""The tiny models."""

from tests.tiny_models import known, tiny

__all__ = ["known", "tiny"]
