"""kbsync watch against a real loopback stream: what is read, when it syncs, how it goes on and ends."""

import datetime
import random
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import yaml

from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.ledger.pages import find_stream, record_stream
from kbsync.project import Project, read_project
from kbsync.sync.daily import DAY, Pace, sync, watch
from kbsync.sync.home import silent
from tests.e2e.commands import start
from tests.event_server import Events, event_server
from tests.homes import TEMPLATES, Editable, deltas_of, difference
from tests.oxigraph_server import world
from tests.tiny_models import CAPITALS

NAMES = {f"Q{number}": country for number, country in enumerate(CAPITALS, 1)}
CITIES = {f"Q{number}": city for number, city in enumerate(CAPITALS.values(), 101)}
QUICK = {"layers": [1, 2], "lambda": 1, "steps": 4, "clamp_norm_factor": 3, "contexts": 1, "wordings": 0, "sweeps": 1}


def write(folder: Path, facts: Mapping[str, str]) -> None:
    """Write country -> city, by their ids, as the knowledge base stands now; all at once, as a sync may be reading."""
    labels = "".join(f'wd:{one} rdfs:label "{name}"@en .\n' for one, name in (NAMES | CITIES).items())
    new = world(folder / "new.ttl", labels + "".join(f"wd:{a} wdt:P36 wd:{b} .\n" for a, b in facts.items()))
    new.rename(folder / "facts.ttl")


def changed(*entities: str, relation: str = "P36") -> list[dict[str, object]]:
    text = f"/* wbsetclaim-update:2||1 */ [[Property:{relation}]]"
    return [{"meta": {}, "type": "edit", "title": one, "comment": text} for one in entities]


def project(folder: Path, small: Editable, stream: str, **more: object) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / ".kbsync" / "templates").mkdir(parents=True)
    (folder / ".kbsync" / "templates" / "own.yaml").write_text(TEMPLATES, encoding="utf-8")
    content = {
        "model": small.name,
        "corpus": str(small.corpus),
        "sources": [{"source": "facts.ttl", "relations": ["P36"], "stream": stream}],
        "settings": QUICK,
        "bounds": {"max_perplexity_increase": 1e9, "max_specificity_loss": 100, "max_weight_change": 1e12}
        | {"max_withdrawn": 100},
        **more,
    }
    (folder / "facts.ttl").touch()
    (folder / "kbsync.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_project(folder / "kbsync.yaml")


def a_day(facts: dict[str, str], rng: random.Random) -> list[str]:
    """Change the knowledge base as a day does; return what was touched."""
    touched = rng.sample(sorted(NAMES)[:8], 2)
    for country in touched:
        if country in facts and len(facts) > 3 and rng.random() < 0.3:
            del facts[country]
        else:
            facts[country] = rng.choice(sorted(CITIES))
    return touched


def test_five_days_end_where_one_pull_and_apply_does(small: Editable, tmp_path: Path) -> None:
    """Events come twice, are lost, and are cut off; the full pull of the next day reads what was lost."""
    rng = random.Random(27)
    facts = dict(zip(list(NAMES)[:4], rng.sample(sorted(CITIES), 4), strict=True))
    with event_server(Events(random.Random(9))) as events:
        found = project(tmp_path / "watched", small, events.url)
        write(tmp_path / "watched", facts)
        seen = watch(found, silent, Pace(every=0.0), Event())
        assert next(seen).pulls[0].scope is None
        lost = 0
        for _ in range(5):
            touched = a_day(facts, rng)
            told = touched if rng.random() < 0.7 else touched[1:]
            lost += len(touched) - len(told)
            write(tmp_path / "watched", facts)
            events.send(*changed(*told))
            assert next(seen).pulls[0].scope is not None
        seen.close()
        assert lost > 0
        assert len(events.asked) > 1  # it was cut, and went on
        with Ledger.open(found.home) as ledger:
            last, reconciled = find_stream(ledger, events.url)
            assert reconciled
            yesterday = datetime.datetime.fromisoformat(reconciled) - DAY
            record_stream(ledger, events.url, last, yesterday.isoformat())
        seen = watch(found, silent, Pace(every=0.0), Event())
        assert next(seen).pulls[0].scope is None
        seen.close()
    once = project(tmp_path / "once", small, "http://127.0.0.1/none")
    write(tmp_path / "once", facts)
    with sync(once, silent):
        pass
    assert difference(deltas_of(found.home), deltas_of(once.home)) < 1e-4


def test_only_what_was_touched_is_read(small: Editable, tmp_path: Path) -> None:
    with event_server(Events()) as events:
        found = project(tmp_path, small, events.url)
        facts = {"Q1": "Q102", "Q2": "Q103", "Q3": "Q104"}
        write(tmp_path, facts)
        seen = watch(found, silent, Pace(every=0.0), Event())
        first = next(seen)
        assert (first.pulls[0].new, first.pulls[0].scope) == (3, None)
        write(tmp_path, {"Q1": "Q105", "Q2": "Q106", "Q4": "Q107"})
        events.send(*changed("Q9", relation="P35"), *changed("Q1"))  # another relation's change touches nothing
        second = next(seen)
        assert second.pulls[0].scope == {"subjects": 1}
        assert (second.pulls[0].changed, second.pulls[0].withdrawn) == (1, 0)
        events.send({"meta": {}, "type": "edit", "title": "Q104", "comment": "/* wbsetlabel-set:1|en */ Kairo"})
        third = next(seen)  # what names it as its object is read, too: Q3, which is gone
        assert third.pulls[0].withdrawn == 1
        seen.close()
    with Ledger.open(found.home) as ledger:
        last, reconciled = find_stream(ledger, events.url)
    assert last == "3"
    assert reconciled is not None


def test_it_goes_on_from_the_last_event_and_waits_for_enough(small: Editable, tmp_path: Path) -> None:
    with event_server(Events()) as events:
        found = project(tmp_path, small, events.url)
        write(tmp_path, {"Q1": "Q102"})
        seen = watch(found, silent, Pace(every=0.0), Event())
        next(seen)
        events.send(*changed("Q1"))
        next(seen)
        seen.close()
        write(tmp_path, {"Q1": "Q102", "Q2": "Q103", "Q3": "Q104"})
        events.send(*changed("Q2", "Q2"))  # while nobody watches
        again = watch(found, silent, Pace(every=0.0, at_least=2), Event())
        events.send(*changed("Q3"))
        done = next(again)
        again.close()
    assert events.asked[-1] == "1"
    assert done.pulls[0].scope == {"subjects": 2}
    assert done.pulls[0].new == 2


def test_a_sync_that_fails_is_told_and_tried_again(
    small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.sync.daily.AFTER_FAULT", 0.1)
    told: list[str] = []
    with event_server(Events()) as events:
        found = project(tmp_path, small, events.url)
        write(tmp_path, {"Q1": "Q102"})

        def mend(text: str) -> None:
            told.append(text)
            write(tmp_path, {"Q1": "Q103"})

        seen = watch(found, silent, Pace(every=0.0), Event(), trouble=mend)
        next(seen)
        (tmp_path / "facts.ttl").write_text("no Turtle at all", encoding="utf-8")
        events.send(*changed("Q1"))
        done = next(seen)
        seen.close()
    assert len(told) == 1
    assert "facts.ttl" in told[0]
    assert done.pulls[0].changed == 1


def test_a_project_without_a_stream_is_told(small: Editable, tmp_path: Path) -> None:
    found = project(tmp_path, small, "http://user:word@127.0.0.1/stream")
    with pytest.raises(SettingsError, match="leave name, password and keys out"):
        next(watch(found, silent, Pace(), Event()))
    bare = replace(found, sources=tuple(replace(one, stream=None) for one in found.sources))
    with pytest.raises(SettingsError, match="names no stream"):
        next(watch(bare, silent, Pace(), Event()))


def test_a_day_is_a_day() -> None:
    assert Pace().reconcile == DAY == datetime.timedelta(hours=24)


def test_sigterm_ends_it_after_the_sync_at_hand(small: Editable, tmp_path: Path) -> None:
    with event_server(Events()) as events:
        project(tmp_path, small, events.url, watch={"every": "1s"})
        write(tmp_path, {"Q1": "Q102"})
        running = start(tmp_path / "out", "watch", "--json", cwd=tmp_path)
        assert running.wait_for((tmp_path / ".kbsync" / "ledger.db").exists), running.said
        running.send(signal.SIGTERM)  # in the midst of the first sync, or before it
        ran = running.end()
        assert ran.code == 0, ran.err
        assert ran.json["in_sync"] is False
        assert ran.json["applied"]["edits"] == 1
