"""Looking facts up: by name, by what is known beside them, and which of a million need to be compared one by one."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter

from kbsync.facts import Wording, normalise_label
from kbsync.ledger.db import insert, now, telling
from kbsync.ledger.decoding import wording_from
from kbsync.ledger.rows import FactRow, VetoRow
from kbsync.ledger.store import Ledger


def facts_named(ledger: Ledger, name: str, relation: str | None = None) -> list[FactRow]:
    """Return the facts, withdrawn ones too, whose subject has this label, id or else alias; none where none has.

    Letter case and spaces do not matter. `relation` None means every relation.
    """
    named = "subject_id = ?1 OR subject_name = ?2"
    aliased = "subject_key IN (SELECT entity_key FROM aliases WHERE alias = ?1 COLLATE NOCASE)"
    words = (" ".join(name.split()), normalise_label(name), relation)
    rest = "WHERE relation = ifnull(?3, relation) AND ({}) ORDER BY id"
    return ledger.select(FactRow, "facts", rest.format(named), *words) or ledger.select(
        FactRow, "facts", rest.format(aliased), *words
    )


def relations_on_record(ledger: Ledger) -> list[str]:
    return [relation for (relation,) in ledger.query("SELECT DISTINCT relation FROM facts ORDER BY relation")]


def subject_labels(ledger: Ledger, relation: str | None) -> list[str]:
    sql = "SELECT DISTINCT subject_label FROM facts WHERE relation = ifnull(?, relation) ORDER BY subject_label"
    return [label for (label,) in ledger.query(sql, relation)]


def aliases(ledger: Ledger, keys: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the aliases of those of the entities (by `Entity.key`) that have some, of all sources, in their order."""
    # Few homes have aliases, and a list of a million keys takes a while to be read.
    if not ledger.query("SELECT 1 FROM aliases LIMIT 1"):
        return {}
    sql = """SELECT DISTINCT entity_key, alias FROM aliases WHERE entity_key IN (SELECT value FROM json_each(?))
        ORDER BY entity_key, alias"""
    found = groupby(ledger.query(sql, json.dumps(list(keys))), key=itemgetter(0))
    return {key: tuple(alias for _, alias in rows) for key, rows in found}


def record_aliases(ledger: Ledger, source: str, read: Mapping[str, Collection[str]]) -> bool:
    """Record what `source` now gives as aliases of each entity of `read`; tell whether it gave others earlier."""
    with ledger.writing() as db:
        held = db.execute("SELECT entity_key, alias FROM aliases WHERE source = ?", [source]).fetchall()
        rows = {(key, alias): None for key, names in read.items() for alias in names}
        if rows.keys() == {row for row in held if row[0] in read}:
            return False
        db.conn.executemany("DELETE FROM aliases WHERE source = ? AND entity_key = ?", [(source, key) for key in read])
        sql = "INSERT INTO aliases (source, entity_key, alias) VALUES (?, ?, ?)"
        db.conn.executemany(sql, [(source, *row) for row in rows])
    return True


def priorities(ledger: Ledger) -> dict[str, int]:
    """Return the sources that go before others, or behind them, with their priorities; all else has 0."""
    return dict(ledger.query("SELECT name, priority FROM sources WHERE priority <> 0"))


def record_priority(ledger: Ledger, source: str, priority: int) -> bool:
    """Record that what `source` states goes before what sources of lower priority do; tell whether that is new."""
    if priorities(ledger).get(source, 0) == priority:
        return False
    with ledger.writing() as db:
        db.execute("INSERT OR REPLACE INTO sources (name, priority) VALUES (?, ?)", [source, priority])
    return True


def rename_source(ledger: Ledger, earlier: str, name: str) -> bool:
    """Let what was read as `earlier` be of `name`, where the ledger has nothing of that yet; tell whether it was so."""
    sources = {source for (source,) in ledger.query("SELECT DISTINCT source FROM pulls")}
    if earlier not in sources or name in sources:
        return False
    with ledger.writing() as db:
        for table in ("pulls", "facts", "aliases", "skipped", "file_readings"):
            db.execute(f"UPDATE {table} SET source = ? WHERE source = ?", [name, earlier])
        db.execute("UPDATE OR REPLACE sources SET name = ? WHERE name = ?", [name, earlier])
    return True


def standing_alone(ledger: Ledger, source: str, relation: str, others: Sequence[str]) -> tuple[int, int]:
    """Return how many facts of a source and relation stand, and how many of these no source of `others` states."""
    sql = f"""SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (
            SELECT 1 FROM facts AS other WHERE other.relation = facts.relation AND other.withdrawn IS NULL
            AND (other.subject_key, other.object_key) = (facts.subject_key, facts.object_key)
            AND other.source IN ({", ".join("?" for _ in others)})))
        FROM facts WHERE source = ? AND relation = ? AND withdrawn IS NULL"""
    ((stand, alone),) = ledger.query(sql, *others, source, relation)
    return stand, alone


def subject_base(ledger: Ledger, source: str) -> str:
    """Return what stands before ``Q42`` in the subject ids of a source: nothing at Wikidata, else a Wikibase's IRI."""
    sql = """SELECT subject_id FROM facts WHERE source = ? AND subject_id GLOB '*/[QP][1-9]*'
        AND withdrawn IS NULL ORDER BY id LIMIT 1"""
    found = ledger.query(sql, source)
    return str(found[0][0]).rpartition("/")[0] + "/" if found else ""


def object_subjects(ledger: Ledger, source: str, ids: Collection[str]) -> list[str]:
    """Return the ids of subjects that name one of `ids` as their object in what `source` states."""
    sql = """SELECT DISTINCT subject_id FROM facts WHERE source = ? AND withdrawn IS NULL
        AND subject_id IS NOT NULL AND object_id IN (SELECT value FROM json_each(?)) ORDER BY subject_id"""
    return [subject for (subject,) in ledger.query(sql, source, json.dumps(list(ids)))]


def own_wordings(ledger: Ledger, facts: Collection[int]) -> dict[int, Wording]:
    sql = "SELECT id, wording FROM facts WHERE wording IS NOT NULL AND id IN (SELECT value FROM json_each(?))"
    return {fact: wording_from(text) for fact, text in ledger.query(sql, json.dumps(list(facts)))}


def vetoes(ledger: Ledger, *, lifted: bool = False) -> list[VetoRow]:
    """Return the vetoes that hold, oldest first; with `lifted`, also those that were lifted."""
    return ledger.select(VetoRow, "vetoes", f"{'' if lifted else 'WHERE lifted IS NULL'} ORDER BY id")


def withheld(facts: Collection[FactRow], held: Sequence[VetoRow]) -> dict[int, VetoRow]:
    by_subject: dict[tuple[str, str], list[VetoRow]] = defaultdict(list)
    for veto in held:
        by_subject[veto.relation, veto.subject_key].append(veto)
    return {
        fact.id: veto
        for fact in (facts if by_subject else ())
        for veto in by_subject.get((fact.relation, fact.subject_key), ())
        if veto.object_key in (None, fact.object_key)
    }


def record_vetoes(ledger: Ledger, facts: Collection[FactRow], *, any_object: bool, reason: str | None) -> None:
    """Put facts under a veto: their subjects for the relation, or (not `any_object`) their present objects alone.

    What is under the same veto already stays as it is.
    """
    with ledger.writing() as db:
        standing = {(veto.relation, veto.subject_key, veto.object_key) for veto in vetoes(ledger)}
        for fact in facts:
            key, label = (None, None) if any_object else (fact.object_key, fact.object_label)
            if (fact.relation, fact.subject_key, key) in standing:
                continue
            standing.add((fact.relation, fact.subject_key, key))
            about = {"relation": fact.relation, "subject_key": fact.subject_key, "subject": fact.subject_label}
            insert(db, "vetoes", {**about, "object_key": key, "object": label, "reason": reason, "since": now()})


def lift_vetoes(ledger: Ledger, ids: Collection[int]) -> None:
    with ledger.writing() as db:
        db.conn.executemany("UPDATE vetoes SET lifted = ? WHERE id = ?", [(now(), veto) for veto in ids])


@dataclass(frozen=True, slots=True)
class RelationCounts:
    """Facts that stand, and subjects that have several objects among them."""

    facts: int
    conflicts: int


def relation_counts(ledger: Ledger) -> dict[str, RelationCounts]:
    """Return the counts of each relation that has facts which stand."""
    facts = "SELECT relation, count(*) FROM facts WHERE withdrawn IS NULL GROUP BY relation"
    conflicts = """SELECT relation, count(*) FROM (
        SELECT facts.relation, facts.subject_key FROM (
            SELECT relation, subject_key FROM facts WHERE withdrawn IS NULL
            GROUP BY relation, subject_key HAVING count(*) > 1
        ) AS shared CROSS JOIN facts ON facts.relation = shared.relation AND facts.subject_key = shared.subject_key
        WHERE facts.withdrawn IS NULL
        GROUP BY facts.relation, facts.subject_key HAVING count(DISTINCT facts.object_key) > 1
    ) GROUP BY relation"""
    contested = dict(ledger.query(conflicts))
    return {relation: RelationCounts(count, contested.get(relation, 0)) for relation, count in ledger.query(facts)}


class Standing:
    """The facts that are not withdrawn, of `relations` (None: all); those `involved` are told from the rest."""

    def __init__(self, ledger: Ledger, relations: Collection[str] | None) -> None:
        self._ledger = ledger
        self._which = "facts.withdrawn IS NULL"
        if relations is not None:
            wanted = json.dumps(sorted(relations)).replace("'", "''")
            self._which += f" AND facts.relation IN (SELECT value FROM json_each('{wanted}'))"
        ledger.query("CREATE TEMP TABLE IF NOT EXISTS involved (id INTEGER PRIMARY KEY)")
        ledger.query("DELETE FROM temp.involved")

    def involve_shared(self) -> None:
        """Involve the facts that share subject and relation, or relation and (normalised) label, with another one."""
        for column in ("subject_key", "subject_name"):
            self._involve(
                f"""FROM (SELECT relation, {column} FROM facts WHERE {self._which}
                    GROUP BY relation, {column} HAVING count(*) > 1) AS shared
                CROSS JOIN facts ON facts.relation = shared.relation AND facts.{column} = shared.{column}
                WHERE facts.withdrawn IS NULL"""
            )

    def involve_edited(self, model: str) -> None:
        self._involve_of("edits", "model = ? AND state = 'active'", model)

    def involve_vetoed(self) -> None:
        self._involve_of("vetoes", "lifted IS NULL")

    def involve_worded(self) -> list[str]:
        """Involve the facts with a wording of their own; return their whole prompts."""
        worded = f"FROM facts WHERE {self._which} AND facts.wording IS NOT NULL"
        self._involve(worded)
        found = self._ledger.query(f"SELECT facts.wording ->> 'prompt', facts.subject_label {worded}")
        return [prompt.format(subject) for prompt, subject in found]

    def involve_relations(self, relations: Collection[str]) -> None:
        which = f"FROM facts WHERE {self._which} AND facts.relation IN (SELECT value FROM json_each(?))"
        self._involve(which, json.dumps(list(relations)))

    def involve_named(self, named: Collection[tuple[str, str]]) -> None:
        """Involve the facts of these relations and subject labels; letter case and spaces do not matter."""
        pairs = [(relation, normalise_label(label)) for relation, label in named]
        self._involve(
            f"""FROM json_each(?) AS named CROSS JOIN facts
            ON facts.relation = named.value ->> 0 AND facts.subject_name = named.value ->> 1 WHERE {self._which}""",
            json.dumps(pairs),
        )

    def _involve_of(self, table: str, where: str, *values: object) -> None:
        self._involve(
            f"""FROM (SELECT relation, subject_key FROM {table} WHERE {where}) AS other
            CROSS JOIN facts ON facts.relation = other.relation AND facts.subject_key = other.subject_key
            WHERE {self._which}""",
            *values,
        )

    def _involve(self, which: str, *values: object) -> None:
        self._ledger.query(f"INSERT OR IGNORE INTO temp.involved SELECT facts.id {which}", *values)

    def involved(self) -> list[FactRow]:
        return self._ledger.select(FactRow, "facts", "WHERE id IN temp.involved ORDER BY id")

    def relations(self) -> list[str]:
        return list(self._all)

    def others(self) -> dict[str, int]:
        """Return how many facts that are not involved each relation has."""
        involved = self._counts("AND facts.id IN temp.involved")
        return {one: count - involved.get(one, 0) for one, count in self._all.items()}

    def first_others(self, relation: str, limit: int) -> list[FactRow]:
        """Return the first facts of a relation, by subject label, that are not involved."""
        which = "WHERE relation = ? AND withdrawn IS NULL AND id NOT IN temp.involved ORDER BY subject_label, id"
        return self._ledger.select(FactRow, "facts", f"{which} LIMIT ?", relation, limit)

    def each_other(self, relation: str) -> Iterator[tuple[str, str, str]]:
        """Yield (subject label, object label, source) of all those facts, in the same order, one by one."""
        sql = """SELECT subject_label, object_label, source FROM facts WHERE relation = ? AND withdrawn IS NULL
            AND id NOT IN temp.involved ORDER BY subject_label, id"""
        with telling(self._ledger.path):
            yield from self._ledger.db.execute(sql, [relation])

    def names_between(self, relation: str, prefix: str, suffix: str) -> list[str]:
        """Return the normalised subject labels of a relation that begin and end so."""
        sql = f"""SELECT DISTINCT subject_name FROM facts WHERE {self._which} AND relation = ? AND subject_name >= ?
            AND subject_name < ? AND length(subject_name) >= ?
            AND substr(subject_name, length(subject_name) + 1 - ?) = ?"""
        values = (relation, prefix, prefix + "\U0010ffff", len(prefix) + len(suffix), len(suffix), suffix)
        return [name for (name,) in self._ledger.query(sql, *values)]

    @cached_property
    def _all(self) -> dict[str, int]:
        return self._counts("")

    def _counts(self, more: str) -> dict[str, int]:
        sql = f"SELECT relation, count(*) FROM facts WHERE {self._which} {more} GROUP BY relation ORDER BY relation"
        return dict(self._ledger.query(sql))
