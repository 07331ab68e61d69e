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
    measured: int = 120
    """cases that are measured of n edits, evenly over their order"""
    generated: int = 20
    """of those, cases with free text for GE and RS"""
    zsre: int = 200
    categories: int = 5
    """relations, those of the most records"""
    category_edits: int = 30
    mixture: int = 700
    """edits of a mixture at most"""
    mixture_pairs: int = 4
    mixture_steps: int = 3
    traced: int = 100
    """facts that are traced"""
    layers: int = 200
    lambdas: int = 9
    """values over four decades"""
    lambda_edits: int = 200
    timed: int = 50
    stars: int = 127

    def with_edits(self, edits: int | None) -> "Sizes":
        """Return these sizes with N edits of both data sets, as the user asks; SettingsError for fewer than 2."""
        if edits is None:
            return self
        if edits < 2:
            raise SettingsError(f"--edits {edits}: two edits are the least that there is a curve of")
        return replace(self, edits=edits, zsre=edits)


FULL = Sizes()
QUICK = Sizes(
    edits=40,
    also=(),
    points=3,
    measured=30,
    generated=6,
    zsre=16,
    categories=2,
    category_edits=10,
    mixture=12,
    mixture_pairs=2,
    mixture_steps=2,
    traced=10,
    layers=16,
    lambdas=5,
    lambda_edits=16,
    timed=8,
    stars=40,
)
