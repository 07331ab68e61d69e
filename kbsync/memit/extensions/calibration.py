"""The search for a new model's settings: windows of layers, and steps along one setting, by trials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kbsync.memit.settings import MemitSettings

MOST_LAYERS = 6
"""of a window; GPT-J's published one has as many"""
LAMBDA_SHARES = (1.0, 0.1)
"""lambda in shares of m, tried on every window, the gentler one first"""
LAMBDA_STEP = 10**0.5
CLAMP_STEP = 1.5
CHANCE = 2.0
"""points of S or recall that are chance, with a few dozen edits"""
MOST_STEPS = 6
"""along one setting, in one direction"""
PERPLEXITY_GROWTH = 1.03
"""of ordinary text, at most, for settings to be chosen: trials write few facts, and what the text pays adds up"""


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings and the figures of edits made with them; `reason` says why there are none."""

    settings: MemitSettings
    figures: dict[str, float]
    """ES, PS, NS, S, recall in percent, and perplexity"""
    base_perplexity: float
    reason: str | None = None

    @property
    def bounded(self) -> bool:
        """Whether ordinary text stays about as likely as it was."""
        return self.reason is None and self.figures["perplexity"] <= PERPLEXITY_GROWTH * self.base_perplexity

    def beats(self, other: "Trial") -> bool:
        """Tell whether this is better than `other` by more than chance, which then stays.

        Within the bound S counts, and recall where S is no lower; beyond it, perplexity. A few dozen edits do not tell
        what many cost the text, so what is at hand is not left for a small gain.
        """
        if not (self.bounded and other.bounded):
            return self.order < other.order
        gain, recall = (self.figures.get(name, 0.0) - other.figures.get(name, 0.0) for name in ("S", "recall"))
        return gain > CHANCE or (gain >= 0 and recall > CHANCE)

    @property
    def order(self) -> tuple[int, float]:
        """Sort key of trials not all of which keep to the bound, the best first."""
        if self.reason is not None:
            return 2, 0.0
        return (0, 0.0) if self.bounded else (1, self.figures["perplexity"])


Try = Callable[[MemitSettings], Trial]


def lambda_of(share: float, m: int) -> float:
    """Return lambda for a share of m, to two digits.

    Over ordinary text the mean of k^T C^-1 k is m, whatever the model, so lambda C weighs as much as a key's own
    k k^T where lambda is m: one scale for models of any size. The published settings lie between 0.8 and 3 of it.
    """
    return float(f"{share * m:.2g}")


def suggested_window(effects: Sequence[float]) -> tuple[int, ...]:
    """Return the run of blocks about the strongest effect that have half of it at least; never the last block."""
    usable = effects[:-1]
    low = high = max(range(len(usable)), key=usable.__getitem__)
    enough = usable[low] / 2
    while high - low + 1 < MOST_LAYERS:
        sides = [place for place in (low - 1, high + 1) if 0 <= place < len(usable) and usable[place] >= enough]
        if not sides:
            break
        chosen = max(sides, key=usable.__getitem__)
        low, high = min(low, chosen), max(high, chosen)
    return tuple(range(low, high + 1))


def critical_layers(gaps: Sequence[float]) -> tuple[int, ...]:
    """Return R by the paper's rule (MEMIT, section 4.1, Figure 3): the blocks up to where the MLPs' part is done.

    `gaps` has, for each block, what the effect of its state at the subject's last token loses when the MLPs above are
    severed. L is the last block of the run about the largest gap that keeps half of it; R are at most six blocks of
    that run, up to L; never the last block of the model.
    """
    usable = gaps[:-1]
    low = high = max(range(len(usable)), key=usable.__getitem__)
    enough = usable[low] / 2
    while high + 1 < len(usable) and usable[high + 1] >= enough:
        high += 1
    while low > 0 and usable[low - 1] >= enough:
        low -= 1
    return tuple(range(max(low, high - MOST_LAYERS + 1), high + 1))


def candidate_windows(suggested: tuple[int, ...], present: tuple[int, ...], blocks: int) -> list[tuple[int, ...]]:
    """Return the suggested window, two that go on above it, it moved by one either way, and the `present` one.

    The trace restores one block at a time and so finds the first of a run that share the work: hence the longer ones.
    """
    low, high = suggested[0], suggested[-1]
    ends = [(low, high), (low, high + 1), (low, high + 2), (low + 1, high + 1), (low - 1, high - 1)]
    windows = [tuple(range(a, b + 1)) for a, b in ends if a >= 0 and b <= blocks - 2]
    return list(dict.fromkeys([*windows, present]))


def search_settings(start: MemitSettings, windows: Sequence[tuple[int, ...]], m: int, attempt: Try) -> Trial:
    """Return the best trial: the start, every window at two lambdas, then steps along lambda, clamp, and lambda again.

    `attempt` makes one trial; the same settings may be asked of it twice. All other settings are those of `start`.
    """
    found = attempt(start)
    for window in windows:
        for share in LAMBDA_SHARES:
            trial = attempt(start.with_values({"layers": window, "lambda": lambda_of(share, m)}))
            found = trial if trial.beats(found) else found
    for name, step in (("lambda", LAMBDA_STEP), ("clamp_norm_factor", CLAMP_STEP), ("lambda", LAMBDA_STEP)):
        found = climbed(found, name, step, attempt)
    return found


def climbed(start: Trial, name: str, step: float, attempt: Try) -> Trial:
    """Return the best trial on the way up and down from `start`, each way as long as it gets better."""
    value = start.settings.as_dict()[name]
    found = start
    for factor in (step, 1 / step):
        for power in range(1, MOST_STEPS + 1):
            trial = attempt(start.settings.with_values({name: float(f"{value * factor**power:.2g}")}))
            if not trial.beats(found):
                break
            found = trial
    return found
