"""Recording base models and what is known of them: their target vectors and their own answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.ledger.connection import Database, now
from kbsync.ledger.reading import columns, compact, select
from kbsync.ledger.rows import ModelRow, TargetRow

__all__ = ["record_answers", "record_model", "record_targets"]


def record_model(
    db: Database,
    *,
    key: str,
    name: str,
    revision: str | None,
    architecture: str,
    weights_sha256: str,
    settings: Mapping[str, Any],
    contexts: Sequence[str],
    layers: Sequence[int],
) -> ModelRow:
    """Write the model, or the time at which it is used again."""
    time = now()
    about = (key, name, revision, architecture, weights_sha256)
    made = (compact(settings), compact(list(contexts)), compact(list(layers)))
    db.execute(
        f"""INSERT INTO models ({columns(ModelRow)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET used = excluded.used""",
        (*about, *made, time, time),
    )
    return select(db, ModelRow, "models", "WHERE key = ?", [key])[0]


def record_targets(db: Database, model: str, file: str, targets: Sequence[tuple[str, int, int, float]]) -> None:
    """Write (key, row, steps, loss) for each target vector of `file`."""
    db.conn.executemany(
        f"""INSERT INTO targets ({columns(TargetRow)}) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET model = excluded.model, file = excluded.file, row = excluded.row,
        steps = excluded.steps, loss = excluded.loss""",
        [(key, model, file, row, steps, loss) for key, row, steps, loss in targets],
    )


def record_answers(db: Database, model: str, answers: Mapping[str, str]) -> None:
    """Write prompt -> answer."""
    db.conn.executemany(
        "INSERT OR REPLACE INTO answers (model, prompt, answer) VALUES (?, ?, ?)",
        [(model, prompt, answer) for prompt, answer in answers.items()],
    )
