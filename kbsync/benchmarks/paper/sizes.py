"""How large the experiments are: quick, standard, or the paper's own."""

from dataclasses import dataclass, replace

from kbsync.errors import SettingsError

__all__ = ["SIZES", "Sizes"]


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
    lines: int = 200
    """of text, for perplexity"""
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
    noises: int = 3
    """draws of noise for each traced fact"""
    layers: int = 200
    lambdas: int = 9
    """values over four decades"""
    lambda_edits: int = 200
    timed: int = 50
    stars: int = 127

    def changed(
        self,
        edits: int | None = None,
        cases: int | None = None,
        categories: int | None = None,
        noises: int | None = None,
    ) -> "Sizes":
        """Return these sizes with what the user asks for: `edits` bounds every experiment's, `cases` all measuring.

        SettingsError for fewer than 2 edits.
        """
        found = self
        if edits is not None:
            if edits < 2:
                raise SettingsError(f"--edits {edits}: ask for 2 at least")
            bounded = ("category_edits", "mixture", "layers", "lambda_edits", "timed", "stars")
            found = replace(found, edits=edits, zsre=edits, **{n: min(edits, getattr(self, n)) for n in bounded})
        if cases is not None:
            found = replace(found, measured=cases, generated=min(cases, self.generated), traced=min(cases, self.traced))
        return replace(found, categories=categories or found.categories, noises=noises or found.noises)


SIZES = {
    "quick": Sizes(
        edits=40,
        also=(),
        points=3,
        measured=30,
        generated=6,
        lines=40,
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
    ),
    "standard": Sizes(),
    "paper": Sizes(
        edits=10_000,
        also=(1000,),
        measured=10_000,
        generated=10_000,
        zsre=10_000,
        categories=34,
        category_edits=1000,
        mixture_steps=7,
        traced=1000,
        noises=10,
        layers=10_000,
        lambda_edits=10_000,
        timed=10_000,
    ),
}
"""by the name that ``--size`` takes; `paper` has the numbers of the paper's own runs on GPT-J"""
