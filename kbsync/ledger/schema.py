"""The statements that the steps of `migrations` run; those of a step that was released are never edited."""

TABLES = (
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

INDEXES = (
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

VIEWS = (
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

EDITS_ROLLED_BACK = (
    ("'superseded', 'retracted')", "'superseded', 'retracted', 'rolled back')"),
    ("(state = 'active') = (ended_by IS NULL)", "(state IN ('active', 'rolled back')) = (ended_by IS NULL)"),
)

GOING_BACK = (
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

MANY_FACTS = (
    "DROP INDEX facts_subject",
    # With `withdrawn`, so that the facts that stand can be grouped without a look at their rows.
    "CREATE INDEX facts_subject ON facts(relation, subject_key, withdrawn)",
    "CREATE INDEX facts_name ON facts(relation, subject_name, withdrawn)",
)

FILE_READINGS = """CREATE TABLE file_readings (
    source TEXT PRIMARY KEY,
    language TEXT NOT NULL,
    day TEXT NOT NULL,
    digest BLOB NOT NULL,
    pulls TEXT NOT NULL,
    skipped TEXT NOT NULL
)"""

SKIPPED = """CREATE TABLE skipped (
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

PAGES = """CREATE TABLE pages (
    key TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    body BLOB NOT NULL
)"""

BASE_SCORES = """CREATE TABLE base_scores (
    model TEXT NOT NULL,  -- its sha256
    prompt TEXT NOT NULL,  -- with the subject; or a text's hash, of which log_prob is the mean over its tokens
    object TEXT NOT NULL,
    log_prob REAL NOT NULL,
    exact INTEGER NOT NULL,
    accuracy REAL NOT NULL,
    PRIMARY KEY (model, prompt, object)
) WITHOUT ROWID"""
