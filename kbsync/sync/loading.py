"""How a model is loaded, as the user asks for it. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["AS_STORED", "Loading"]


@dataclass(frozen=True, slots=True)
class Loading:
    """Where a model goes and in what form."""

    device: str | None = None
    """cuda, mps, cpu, or auto for all there are; None is the best one there is"""
    dtype: str | None = None
    """float32, float16 or bfloat16; None is float32 on a CPU, else as stored"""
    max_memory: Mapping[int | str, str] | None = None
    """bounds under ``auto``: GPU number, or cpu, -> size such as 20GiB"""
    experimental: bool = False
    """read a model of an unknown family by its structure"""


AS_STORED = Loading()
