"""How large the experiments are: whole, or quick."""

from dataclasses import dataclass, replace

from kbsync.errors import SettingsError

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of edits, and of cases that are measured; each experiment takes fewer where the data has fewer."""

    edits: int = 1000
    """N of `counterfact` and `scaling`"""
    also: tuple[int, ...] = (300,)
    """further n of both, under N"""
    points: int = 16
    """n = exp(ln(N) i / points), i = 0..points"""
    measured: int = 150
    """cases that are measured of n edits, evenly over their order"""
    generated: int = 30
    """of those, cases with free text for GE and RS"""
    zsre: int = 300
    categories: int = 6
    """relations, those of the most records"""
    category_edits: int = 40
    mixture: int = 700
    """edits of a mixture at most"""
    mixture_pairs: int = 4
    mixture_steps: int = 3
    layers: int = 200
    lambdas: int = 9
    """values over four decades"""
    lambda_edits: int = 200
    timed: int = 50

    def with_edits(self, edits: int | None) -> "Sizes":
        """Return these sizes with N edits of both data sets, as the user asks; SettingsError for fewer than 2."""
        if edits is None:
            return self
        if edits < 2:
            raise SettingsError(f"--edits {edits}: two edits are the least that there is a curve of")
        return replace(self, edits=edits, zsre=edits)


FULL = Sizes()
QUICK = Sizes(
    edits=60,
    also=(),
    points=3,
    measured=40,
    generated=6,
    zsre=30,
    categories=3,
    category_edits=12,
    mixture=24,
    mixture_pairs=2,
    mixture_steps=2,
    layers=40,
    lambdas=5,
    lambda_edits=40,
    timed=8,
)
