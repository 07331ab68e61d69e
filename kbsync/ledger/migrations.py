"""The schema of ledger.db in numbered steps. A step and the record that it ran (``user_version``) commit together.

To change the schema add a step at the end; a step that was released is never edited.
"""

from collections.abc import Callable, Sequence

from kbsync.errors import LedgerError
from kbsync.facts import normalise_label
from kbsync.ledger import decoding
from kbsync.ledger.db import Database, immediate
from kbsync.ledger.schema import (
    BASE_SCORES,
    EDITS_ROLLED_BACK,
    FILE_READINGS,
    GOING_BACK,
    INDEXES,
    MANY_FACTS,
    PAGES,
    SKIPPED,
    TABLES,
    VIEWS,
)

Step = Callable[[Database], None]


def m001_initial(db: Database) -> None:
    """Create the tables and views."""
    for statement in (*TABLES, *INDEXES, *VIEWS):
        db.execute(statement)


def m002_going_back(db: Database) -> None:
    """Make room for rollbacks, vetoes and aliases.

    A batch names the one that it went on from, and each ending of an edit is a row of its own, so that the edits
    active after any batch can be told; before this step the batches of a model stood in one line.
    """
    _rebuild(db, "edits", EDITS_ROLLED_BACK)
    for statement in GOING_BACK:
        db.execute(statement)


def m003_many_facts(db: Database) -> None:
    """Let facts that share a subject or a label be found, and facts be counted, by index."""
    db.execute("ALTER TABLE facts ADD COLUMN subject_name TEXT NOT NULL DEFAULT ''")  # the label, normalised
    db.conn.create_function("normalise_label", 1, normalise_label, deterministic=True)
    db.execute("UPDATE facts SET subject_name = normalise_label(subject_label)")
    for statement in MANY_FACTS:
        db.execute(statement)


def m004_weak_edits(db: Database) -> None:
    """Make room for how often an edit was tried again, and for what a batch had to do and within which bounds."""
    db.execute("ALTER TABLE edits ADD COLUMN retries INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE batches ADD COLUMN work TEXT NOT NULL DEFAULT '{}'")


def m005_files_read(db: Database) -> None:
    """Make room for how a file stood when it was last read."""
    db.execute(FILE_READINGS)


def m006_pages(db: Database) -> None:
    """Make room for the day that a pull asked about, and for the pages of an interrupted pull."""
    db.execute("ALTER TABLE pulls ADD COLUMN as_of TEXT")  # null: the day of the pull itself
    db.execute(PAGES)
    db.execute("CREATE INDEX pages_time ON pages(time)")


def m007_wordings(db: Database) -> None:
    """Let a fact have prompts of its own, in place of its relation's template."""
    db.execute("ALTER TABLE facts ADD COLUMN wording TEXT")
    db.execute("CREATE INDEX facts_worded ON facts(id) WHERE wording IS NOT NULL")


def m008_scopes(db: Database) -> None:
    """Make room for a pull's scope, for what it left out and why, and for the labels that a fact had earlier."""
    db.execute("ALTER TABLE pulls ADD COLUMN scope TEXT")  # JSON; null: the whole relation, or not known
    db.execute("ALTER TABLE pulls ADD COLUMN relabelled INTEGER NOT NULL DEFAULT 0")
    _rebuild(db, "fact_history", (("'changed', 'withdrawn'", "'changed', 'relabelled', 'withdrawn'"),))
    db.execute("ALTER TABLE fact_history ADD COLUMN subject_label TEXT")  # null: not on record
    db.execute(SKIPPED)


def m009_seals(db: Database) -> None:
    """Give the rows that decide what is served a hash each."""
    decoding.prepare(db)


def m010_base_scores(db: Database) -> None:
    """Make room for how the base models take to objects, so that they are asked once."""
    db.execute(BASE_SCORES)


def m011_several_sources(db: Database) -> None:
    """Make room for which source goes before which, and for how far a stream of changes was followed."""
    db.execute("CREATE TABLE sources (name TEXT PRIMARY KEY, priority INTEGER NOT NULL) WITHOUT ROWID")
    db.execute("CREATE TABLE streams (url TEXT PRIMARY KEY, event TEXT, reconciled TEXT NOT NULL) WITHOUT ROWID")


STEPS: tuple[Step, ...] = (
    m001_initial,
    m002_going_back,
    m003_many_facts,
    m004_weak_edits,
    m005_files_read,
    m006_pages,
    m007_wordings,
    m008_scopes,
    m009_seals,
    m010_base_scores,
    m011_several_sources,
)


def migrate(db: Database, steps: Sequence[Step] = STEPS) -> None:
    """Run the steps that `db` has not had. Two processes may do so at once: each step runs one time.

    Raises LedgerError where rows are not as they were written: a step would seal them as they are.
    """
    while _version(db) < len(steps):
        with immediate(db):
            done = _version(db)  # read again: another process may have been first
            if done >= len(steps):
                return
            sealed = done >= decoding.SEALED_SINCE
            if sealed and (broken := decoding.broken_seals(db)):
                raise LedgerError(f"the ledger cannot be brought up to date: {broken[0]}; restore a copy of it")
            steps[done](db)
            if sealed:
                decoding.renew(db)
            db.execute(f"PRAGMA user_version = {done + 1}")


def _version(db: Database) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _rebuild(db: Database, table: str, changes: Sequence[tuple[str, str]]) -> None:
    """Make `table` anew with other constraints, which SQLite cannot alter; rows, indexes and references stay."""
    db.execute("PRAGMA defer_foreign_keys = ON")  # until the step commits: the rows are gone for a moment
    made = dict(db.execute("SELECT type || ' ' || name, sql FROM sqlite_master WHERE tbl_name = ?", [table]))
    sql = made.pop(f"table {table}")
    for old, new in changes:
        assert sql.count(old) == 1, f"{table} has no {old}"
        sql = sql.replace(old, new)
    db.execute(f"CREATE TEMP TABLE kept_rows AS SELECT * FROM {table}")
    db.execute(f"DROP TABLE {table}")
    db.execute(sql)
    db.execute(f"INSERT INTO {table} SELECT * FROM kept_rows")
    db.execute("DROP TABLE kept_rows")
    for index in filter(None, made.values()):
        db.execute(index)
