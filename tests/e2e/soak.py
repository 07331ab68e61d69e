"""SIGKILL at seeded random moments of pulls and applies, each followed by the same command again.

    python -m tests.e2e.soak --kills 100

While a command runs and after it was killed, `status` and `export` must show the state before it or the state after
it; at the end weights and ledger rows (but for times) must be those of the story without faults.
"""

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.commands import run, start
from tests.e2e.story import Step, Story, look, new_home, recorded, shown_by_status, write_world
from tests.homes import Editable, done, small_model
from tests.oxigraph_server import serve
from tests.tiny_models import one_thread

__all__ = ["Soaked", "soak"]

KILLS_A_DAY = 4
LOOKS = 0.3
"""share of the kills before which `status` is looked at, too"""


@dataclass
class Soaked:
    """What was done and seen."""

    kills: Counter[str] = field(default_factory=Counter)
    """by command and the phase that it had begun last"""
    states: Counter[str] = field(default_factory=Counter)
    """after a kill: old or new"""
    looks: int = 0
    """at commands that were running"""
    difference: float = 0.0
    """largest relative difference of a weight from the story without faults"""


@dataclass(frozen=True, slots=True)
class Soak:
    """A home that meets kills, and the draws of their moments."""

    home: Path
    model: Editable
    folder: Path
    draw: random.Random
    soaked: Soaked

    def tell(self, steps: Sequence[Step], kills: int) -> None:
        """Run every command; kill it a few times before it may end."""
        for number, step in enumerate(steps):
            wanted = -(-kills * (number + 1) // len(steps))
            while self.soaked.kills.total() < wanted and (self.killed(step) or step is steps[-1]):
                pass
            self.run_on(step)

    def killed(self, step: Step) -> bool:
        """Start a command, kill it at a moment of its duration, and look; false where it ended before."""
        moment = self.draw.uniform(0, step.seconds)
        looks = self.draw.random() < LOOKS
        running = start(self.folder / "out", *step.arguments, "--home", self.home)
        until = time.monotonic() + moment
        if looks:
            assert shown_by_status(self.home, self.model) in (step.before.status, step.after.status)
            self.soaked.looks += 1
        running.process.join(max(0.0, until - time.monotonic()))
        running.send(signal.SIGKILL)
        said = running.end()
        if said.code != -signal.SIGKILL:
            assert said.code == 0, said.err
            return False
        begun = [line.partition(":")[0] for line in running.said if line[:1].islower()]
        self.soaked.kills[f"{step.arguments[0]}: {begun[-1] if begun else 'start'}"] += 1
        self.soaked.states[step.state(look(self.home, self.model, self.folder))] += 1
        return True

    def run_on(self, step: Step) -> None:
        """Run the same command to its end: the state is the one after it."""
        ran = run(self.folder / "out", *step.arguments, "--home", self.home)
        assert ran.code == 0, ran.err
        moment = look(self.home, self.model, self.folder)
        assert moment.same(step.after)
        self.soaked.difference = max(self.soaked.difference, moment.difference(step.after))


def soak(folder: Path, model: Editable, kills: int, seed: int = 0) -> Soaked:
    """Tell a story without faults, and again with `kills` kills; raise AssertionError where anything differs."""
    days = max(2, kills // KILLS_A_DAY)
    with serve(write_world(folder / "world.ttl", seed, days)) as endpoint:
        story = Story(new_home(folder / "calm"), model, endpoint, folder / "calm-out").tell(days)
        home = new_home(folder / "killed")
        there = Soak(home, model, folder / "killed-out", random.Random(seed), Soaked())
        there.tell(story.steps, kills)
    assert recorded(home) == recorded(story.home)
    assert done("verify", "--home", home, "--json").json["whole"]
    assert not list((home / "tensors").glob(".*"))
    return there.soaked


def main() -> None:
    """Run the soak and print what was done and seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kbsync-soak-") as name, one_thread():
        folder = Path(name)
        soaked = soak(folder, small_model(folder), wanted.kills, wanted.seed)
    for phase, count in sorted(soaked.kills.items()):
        print(f"{count:4} kills in {phase}")
    print(f"{soaked.kills.total()} kills, after which the state was {dict(soaked.states)}")
    print(f"{soaked.looks} looks at a running command; every one showed the state before it or after it")
    print(f"largest difference of a weight from the story without faults: {soaked.difference:.1e}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
