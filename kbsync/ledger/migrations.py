"""The schema of ledger.db in numbered steps. A step and the record that it ran (``user_version``) commit together.

To change the schema add a step at the end; a step that was released is never edited.
"""

from collections.abc import Callable, Sequence

from kbsync.errors import LedgerError
from kbsync.facts import normalise_label
from kbsync.ledger import decoding, schema
from kbsync.ledger.db import Database, immediate

Step = Callable[[Database], None]


def _going_back(db: Database) -> None:
    """Make room for rollbacks, vetoes and aliases.

    A batch names the one that it went on from, and each ending of an edit is a row of its own, so that the edits
    active after any batch can be told; before this step the batches of a model stood in one line.
    """
    _rebuild(db, "edits", schema.EDITS_ROLLED_BACK)
    _all(*schema.GOING_BACK)(db)


def _many_facts(db: Database) -> None:
    """Let facts that share a subject or a label be found, and facts be counted, by index."""
    db.execute("ALTER TABLE facts ADD COLUMN subject_name TEXT NOT NULL DEFAULT ''")  # the label, normalised
    db.conn.create_function("normalise_label", 1, normalise_label, deterministic=True)
    db.execute("UPDATE facts SET subject_name = normalise_label(subject_label)")
    _all(*schema.MANY_FACTS)(db)


def _scopes(db: Database) -> None:
    """Make room for a pull's scope, for what it left out and why, and for the labels that a fact had earlier."""
    db.execute("ALTER TABLE pulls ADD COLUMN scope TEXT")  # JSON; null: the whole relation, or not known
    db.execute("ALTER TABLE pulls ADD COLUMN relabelled INTEGER NOT NULL DEFAULT 0")
    _rebuild(db, "fact_history", (("'changed', 'withdrawn'", "'changed', 'relabelled', 'withdrawn'"),))
    db.execute("ALTER TABLE fact_history ADD COLUMN subject_label TEXT")  # null: not on record
    db.execute(schema.SKIPPED)


def _all(*statements: str) -> Step:
    """Return the step that runs these statements."""

    def run(db: Database) -> None:
        for statement in statements:
            db.execute(statement)

    return run


STEPS: tuple[Step, ...] = (
    _all(*schema.TABLES, *schema.INDEXES, *schema.VIEWS),
    _going_back,
    _many_facts,
    # How often an edit was tried again, and what a batch had to do and within which bounds.
    _all(
        "ALTER TABLE edits ADD COLUMN retries INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE batches ADD COLUMN work TEXT NOT NULL DEFAULT '{}'",
    ),
    # How a file stood when it was last read.
    _all(schema.FILE_READINGS),
    # The day that a pull asked about (null: the day of the pull itself), and the pages of an interrupted pull.
    _all("ALTER TABLE pulls ADD COLUMN as_of TEXT", schema.PAGES, "CREATE INDEX pages_time ON pages(time)"),
    # A fact's own prompts, in place of its relation's template.
    _all(
        "ALTER TABLE facts ADD COLUMN wording TEXT", "CREATE INDEX facts_worded ON facts(id) WHERE wording IS NOT NULL"
    ),
    _scopes,
    # A hash for each of the rows that decide what is served.
    decoding.prepare,
    # How the base models take to objects, so that they are asked once.
    _all(schema.BASE_SCORES),
    # Which source goes before which, and how far a stream of changes was followed.
    _all(
        "CREATE TABLE sources (name TEXT PRIMARY KEY, priority INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE streams (url TEXT PRIMARY KEY, event TEXT, reconciled TEXT NOT NULL) WITHOUT ROWID",
    ),
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
