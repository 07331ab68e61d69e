"""The small model that homes are edited for."""

from tests.homes import small

__all__ = ["small"]
