"""The schema of ledger.db in numbered steps. A step and the record that it ran (``user_version``) commit together.

To change the schema add a step at the end; a step that was released is never edited.
"""

from collections.abc import Callable, Sequence

from kbsync.errors import LedgerError
from kbsync.facts import normalise_label
from kbsync.ledger import seals
from kbsync.ledger.db import Database, immediate

__all__ = ["STEPS", "migrate"]

Step = Callable[[Database], None]


def m001_initial(db: Database) -> None:
    """Create the tables and views."""
    for statement in (*_TABLES, *_INDEXES, *_VIEWS):
        db.execute(statement)


def m002_going_back(db: Database) -> None:
    """Make room for rollbacks, vetoes and aliases.

    A batch names the one that it went on from, and each ending of an edit is a row of its own, so that the edits
    active after any batch can be told; before this step the batches of a model stood in one line.
    """
    _rebuild(db, "edits", _EDITS_ROLLED_BACK)
    for statement in _GOING_BACK:
        db.execute(statement)


def m003_many_facts(db: Database) -> None:
    """Let facts that share a subject or a label be found, and facts be counted, by index."""
    db.execute("ALTER TABLE facts ADD COLUMN subject_name TEXT NOT NULL DEFAULT ''")  # the label, normalised
    db.conn.create_function("normalise_label", 1, normalise_label, deterministic=True)
    db.execute("UPDATE facts SET subject_name = normalise_label(subject_label)")
    for statement in _MANY_FACTS:
        db.execute(statement)


def m004_weak_edits(db: Database) -> None:
    """Make room for how often an edit was tried again, and for what a batch had to do and within which bounds."""
    db.execute("ALTER TABLE edits ADD COLUMN retries INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE batches ADD COLUMN work TEXT NOT NULL DEFAULT '{}'")


def m005_files_read(db: Database) -> None:
    """Make room for how a file stood when it was last read."""
    db.execute(_FILE_READINGS)


def m006_pages(db: Database) -> None:
    """Make room for the day that a pull asked about, and for the pages of an interrupted pull."""
    db.execute("ALTER TABLE pulls ADD COLUMN as_of TEXT")  # null: the day of the pull itself
    db.execute(_PAGES)
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
    db.execute(_SKIPPED)


def m009_seals(db: Database) -> None:
    """Give the rows that decide what is served a hash each."""
    seals.prepare(db)


def m010_base_scores(db: Database) -> None:
    """Make room for how the base models take to objects, so that they are asked once."""
    db.execute(_BASE_SCORES)


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
            sealed = done >= seals.SEALED_SINCE
            if sealed and (broken := seals.broken_seals(db)):
                raise LedgerError(f"the ledger cannot be brought up to date: {broken[0]}; restore a copy of it")
            steps[done](db)
            if sealed:
                seals.renew(db)
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


_TABLES = (
    """CREATE TABLE pulls (
        id INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        relation TEXT NOT NULL,
        query TEXT,
        started TEXT NOT NULL,
        finished TEXT NOT NULL,
        new INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        withdrawn INTEGER NOT NULL,
        unchanged INTEGER NOT NULL,
        conflicting INTEGER NOT NULL
    )""",
    # One row for each statement, so a subject with two objects (a conflict) is two rows.
    """CREATE TABLE facts (
        id INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        relation TEXT NOT NULL,
        subject_key TEXT NOT NULL,
        subject_label TEXT NOT NULL,
        subject_id TEXT,
        object_key TEXT NOT NULL,
        object_label TEXT NOT NULL,
        object_id TEXT,
        rank TEXT NOT NULL,
        since TEXT,
        first_seen INTEGER NOT NULL REFERENCES pulls(id),
        last_seen INTEGER NOT NULL REFERENCES pulls(id),
        withdrawn INTEGER REFERENCES pulls(id)
    )""",
    """CREATE TABLE fact_history (
        id INTEGER PRIMARY KEY,
        fact INTEGER NOT NULL REFERENCES facts(id),
        object_key TEXT NOT NULL,
        object_label TEXT NOT NULL,
        object_id TEXT,
        rank TEXT NOT NULL,
        since TEXT,
        ended TEXT NOT NULL CHECK (ended IN ('changed', 'withdrawn')),
        ended_by INTEGER NOT NULL REFERENCES pulls(id)
    )""",
    """CREATE TABLE models (
        key TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        revision TEXT,
        architecture TEXT NOT NULL,
        weights_sha256 TEXT NOT NULL,
        settings TEXT NOT NULL,
        contexts TEXT NOT NULL,
        layers TEXT NOT NULL,
        recorded TEXT NOT NULL,
        used TEXT NOT NULL
    )""",
    """CREATE TABLE targets (
        key TEXT PRIMARY KEY,
        model TEXT NOT NULL REFERENCES models(key),
        file TEXT NOT NULL,
        row INTEGER NOT NULL,
        steps INTEGER NOT NULL,
        loss REAL NOT NULL
    )""",
    """CREATE TABLE answers (
        model TEXT NOT NULL REFERENCES models(key),
        prompt TEXT NOT NULL,
        answer TEXT NOT NULL,
        PRIMARY KEY (model, prompt)
    )""",
    """CREATE TABLE batches (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL REFERENCES models(key),
        algorithm TEXT NOT NULL,
        settings TEXT NOT NULL,
        started TEXT NOT NULL,
        finished TEXT,
        state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'rolled back')),
        reason TEXT,
        device TEXT NOT NULL,
        seconds TEXT NOT NULL DEFAULT '{}',
        peak_memory_mb REAL,
        files TEXT NOT NULL DEFAULT '{}'
    )""",
    # The labels are those that were written: the fact's own row may have moved on since.
    """CREATE TABLE edits (
        id INTEGER PRIMARY KEY,
        batch INTEGER NOT NULL REFERENCES batches(id),
        model TEXT NOT NULL REFERENCES models(key),
        fact INTEGER NOT NULL REFERENCES facts(id),
        relation TEXT NOT NULL,
        subject_key TEXT NOT NULL,
        subject TEXT NOT NULL,
        object_key TEXT NOT NULL,
        object TEXT NOT NULL,
        prompt TEXT NOT NULL,
        request TEXT NOT NULL,
        target TEXT REFERENCES targets(key),
        state TEXT NOT NULL CHECK (state IN ('active', 'superseded', 'retracted')),
        ended_by INTEGER REFERENCES batches(id),
        CHECK ((state = 'active') = (ended_by IS NULL))
    )""",
    """CREATE TABLE metrics (
        id INTEGER PRIMARY KEY,
        batch INTEGER NOT NULL REFERENCES batches(id),
        edit INTEGER REFERENCES edits(id),
        name TEXT NOT NULL,
        "before" REAL,
        "after" REAL
    )""",
    """CREATE TABLE conflicts (
        id INTEGER PRIMARY KEY,
        pull INTEGER REFERENCES pulls(id),
        batch INTEGER REFERENCES batches(id),
        relation TEXT NOT NULL,
        subject_key TEXT NOT NULL,
        subject TEXT NOT NULL,
        objects TEXT NOT NULL,
        resolution TEXT NOT NULL,
        CHECK ((pull IS NULL) <> (batch IS NULL))
    )""",
)

_INDEXES = (
    "CREATE UNIQUE INDEX facts_current ON facts(source, relation, subject_key, object_key) WHERE withdrawn IS NULL",
    "CREATE INDEX facts_subject ON facts(relation, subject_key)",
    "CREATE INDEX fact_history_fact ON fact_history(fact)",
    # Eqn. 5 as the database's own rule: a model holds one object for each subject and relation.
    "CREATE UNIQUE INDEX edits_active ON edits(model, relation, subject_key) WHERE state = 'active'",
    "CREATE INDEX edits_subject ON edits(relation, subject_key)",
    "CREATE INDEX edits_batch ON edits(batch)",
    "CREATE INDEX metrics_batch ON metrics(batch)",
    "CREATE INDEX conflicts_pull ON conflicts(pull)",
)

_VIEWS = (
    # A row for each fact, and for each model that it is written into.
    """CREATE VIEW v_status AS
    WITH contested AS (
        SELECT relation, subject_key FROM facts WHERE withdrawn IS NULL
        GROUP BY relation, subject_key HAVING count(DISTINCT object_key) > 1
    )
    SELECT facts.id AS fact, facts.source, facts.relation,
        facts.subject_label AS subject, facts.object_label AS object,
        CASE
            WHEN facts.withdrawn IS NOT NULL AND edits.object_key = facts.object_key THEN 'withdrawn, still edited'
            WHEN facts.withdrawn IS NOT NULL THEN 'withdrawn'
            WHEN contested.relation IS NOT NULL THEN 'in conflict'
            WHEN edits.id IS NULL THEN 'not edited'
            WHEN edits.object_key = facts.object_key THEN 'in sync'
            ELSE 'changed since the edit'
        END AS state,
        edits.object AS edited_object, models.name AS model, edits.batch
    FROM facts
    LEFT JOIN contested ON contested.relation = facts.relation AND contested.subject_key = facts.subject_key
    LEFT JOIN edits ON edits.relation = facts.relation AND edits.subject_key = facts.subject_key
        AND edits.state = 'active'
    LEFT JOIN models ON models.key = edits.model""",
    """CREATE VIEW v_edits AS
    SELECT edits.id AS edit, models.name AS model, edits.batch, batches.started, edits.relation, edits.subject,
        edits.object, replace(edits.prompt, '{}', edits.subject) AS prompt, edits.state, edits.ended_by
    FROM edits JOIN batches ON batches.id = edits.batch JOIN models ON models.key = edits.model""",
)

_EDITS_ROLLED_BACK = (
    ("'superseded', 'retracted')", "'superseded', 'retracted', 'rolled back')"),
    ("(state = 'active') = (ended_by IS NULL)", "(state IN ('active', 'rolled back')) = (ended_by IS NULL)"),
)

_GOING_BACK = (
    # The batch whose state this one went on from; null where that was the base model, or where it is not done.
    "ALTER TABLE batches ADD COLUMN parent INTEGER REFERENCES batches(id)",
    """UPDATE batches SET parent = (
        SELECT max(earlier.id) FROM batches AS earlier
        WHERE earlier.model = batches.model AND earlier.state = 'done' AND earlier.id < batches.id
    ) WHERE state = 'done'""",
    # After a rollback a second batch may end an edit that a first one had ended, so edits.ended_by is not enough.
    """CREATE TABLE endings (
        batch INTEGER NOT NULL REFERENCES batches(id),
        edit INTEGER NOT NULL REFERENCES edits(id),
        state TEXT NOT NULL CHECK (state IN ('superseded', 'retracted')),
        PRIMARY KEY (batch, edit)
    ) WITHOUT ROWID""",
    "INSERT INTO endings (batch, edit, state) SELECT ended_by, id, state FROM edits WHERE ended_by IS NOT NULL",
    "CREATE INDEX endings_edit ON endings(edit)",
    # Batches as they were current before and after; null is the base model.
    """CREATE TABLE rollbacks (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL REFERENCES models(key),
        from_batch INTEGER REFERENCES batches(id),
        to_batch INTEGER REFERENCES batches(id),
        time TEXT NOT NULL
    )""",
    # A user's word that a fact is not to be written, whatever the source says; no object means any object.
    """CREATE TABLE vetoes (
        id INTEGER PRIMARY KEY,
        relation TEXT NOT NULL,
        subject_key TEXT NOT NULL,
        subject TEXT NOT NULL,
        object_key TEXT,
        object TEXT,
        reason TEXT,
        since TEXT NOT NULL,
        lifted TEXT
    )""",
    """CREATE UNIQUE INDEX vetoes_standing ON vetoes(relation, subject_key, ifnull(object_key, ''))
        WHERE lifted IS NULL""",
    """CREATE TABLE aliases (
        source TEXT NOT NULL,
        entity_key TEXT NOT NULL,
        alias TEXT NOT NULL,
        PRIMARY KEY (entity_key, source, alias)
    ) WITHOUT ROWID""",
    # The pull that stated a withdrawn fact again; null where this step found the row.
    "ALTER TABLE fact_history ADD COLUMN restated_by INTEGER REFERENCES pulls(id)",
)

_MANY_FACTS = (
    "DROP INDEX facts_subject",
    # With `withdrawn`, so that the facts that stand can be grouped without a look at their rows.
    "CREATE INDEX facts_subject ON facts(relation, subject_key, withdrawn)",
    "CREATE INDEX facts_name ON facts(relation, subject_name, withdrawn)",
)

_FILE_READINGS = """CREATE TABLE file_readings (
    source TEXT PRIMARY KEY,
    language TEXT NOT NULL,
    day TEXT NOT NULL,
    digest BLOB NOT NULL,
    pulls TEXT NOT NULL,
    skipped TEXT NOT NULL
)"""

_SKIPPED = """CREATE TABLE skipped (
    source TEXT NOT NULL,
    relation TEXT NOT NULL,
    subject_key TEXT NOT NULL,
    subject_label TEXT NOT NULL,
    object TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_seen INTEGER NOT NULL REFERENCES pulls(id),
    last_seen INTEGER NOT NULL REFERENCES pulls(id),
    PRIMARY KEY (source, relation, subject_key, object, reason)
) WITHOUT ROWID"""

_PAGES = """CREATE TABLE pages (
    key TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    body BLOB NOT NULL
)"""

_BASE_SCORES = """CREATE TABLE base_scores (
    model TEXT NOT NULL,  -- its sha256
    prompt TEXT NOT NULL,  -- with the subject; or a text's hash, of which log_prob is the mean over its tokens
    object TEXT NOT NULL,
    log_prob REAL NOT NULL,
    exact INTEGER NOT NULL,
    accuracy REAL NOT NULL,
    PRIMARY KEY (model, prompt, object)
) WITHOUT ROWID"""
