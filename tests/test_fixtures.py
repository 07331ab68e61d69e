"""The fixtures: facts in two editions, templates for them, and the practice model that knows the earlier one."""

import random
import subprocess
import sys
from collections import Counter
from functools import cache

from kbsync.facts import Fact
from kbsync.models import load_model, score_targets
from kbsync.resources import fixtures_folder, templates_folder
from kbsync.sources import Ask, open_source
from kbsync.sync.practice import paraphrase_requests, practice_requests
from kbsync.templates import load_templates

SAMPLE = 100


@cache
def edition(name: str) -> dict[tuple[str, str], list[Fact]]:
    """The current facts of an edition by relation and subject."""
    source = open_source(str(fixtures_folder() / "wikidata" / f"{name}.ttl"))
    found: dict[tuple[str, str], list[Fact]] = {}
    for template in load_templates(templates_folder()):
        for fact in source.read(Ask(template.relation)).facts:
            found.setdefault((fact.relation, fact.subject.key), []).append(fact)
    return found


def test_the_editions_are_as_their_tables_say() -> None:
    build = fixtures_folder() / "wikidata" / "build.py"
    done = subprocess.run([sys.executable, build, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "both editions are as the tables say\n")


def test_the_editions_hold_what_was_promised() -> None:
    earlier, later = edition("earlier"), edition("later")
    assert len(earlier) >= 2_000
    assert len({relation for relation, _ in earlier}) >= 16
    single = {key: facts[0].object.key for key, facts in later.items() if len(facts) == 1}
    changed = [key for key, thing in single.items() if key in earlier and earlier[key][0].object.key != thing]
    assert len(changed) >= 100
    assert len(later.keys() - earlier.keys()) >= 200
    assert len(earlier.keys() - later.keys()) >= 20
    assert sum(len(facts) > 1 for facts in later.values()) >= 15
    assert Counter(relation for relation, _ in later)["P59"] >= 150


def test_own_ids_are_no_wikidata_ids() -> None:
    ids = [entity.id for facts in edition("later").values() for entity in (facts[0].subject, facts[0].object)]
    own = [name for name in ids if name is not None and not name.startswith("Q")]
    assert own
    assert all(name.startswith("http://kbsync.example/entity/") for name in own)


def test_the_practice_model_knows_the_earlier_edition() -> None:
    loaded = load_model(str(fixtures_folder() / "practice-model"), device="cpu")
    sample = random.Random(0).sample(practice_requests("earlier"), SAMPLE)
    shares = []
    for requests in (sample, random.Random(0).sample(paraphrase_requests(sample), SAMPLE)):
        scores = score_targets(loaded, [(one.prompt, one.subject, one.target) for one in requests])
        shares.append(sum(score.exact for score in scores) / SAMPLE)
    assert shares[0] >= 0.95
    assert shares[1] >= 0.90
