"""The requests that edits on record were made of."""

from collections.abc import Mapping

from kbsync.facts import EditRequest, Wording
from kbsync.ledger import EditRow
from kbsync.templates import Templates

__all__ = ["request_of"]


def request_of(
    edit: EditRow, templates: Templates, own: Mapping[int, Wording], names: tuple[str, ...] = ()
) -> EditRequest:
    """Return the request that an edit wrote, with the present paraphrases of its fact (by `own`) or its relation.

    `own` maps a fact to its own wording; `names` are the object's aliases.
    """
    now = templates.wording(edit.relation, own.get(edit.fact)) or Wording(edit.prompt)
    return EditRequest(edit.relation, edit.subject, edit.prompt, edit.object, now.paraphrases, now.question, names)
