"""The requests that edits on record were made of."""

from collections.abc import Sequence

from kbsync.errors import LedgerError
from kbsync.facts import EditRequest, Wording
from kbsync.ledger import EditRow, Ledger
from kbsync.ledger.facts import aliases, own_wordings
from kbsync.templates import Templates

__all__ = ["requests_of"]


def requests_of(ledger: Ledger, templates: Templates, edits: Sequence[EditRow]) -> list[EditRequest]:
    """Return the request that each edit wrote, with its object's aliases.

    Paraphrases, question and further wordings are the present ones of its fact or, where that has none of its own, its
    relation. Raises LedgerError if an edit's record is damaged.
    """
    names = aliases(ledger, {edit.object_key for edit in edits})
    own = own_wordings(ledger, {edit.fact for edit in edits})
    found = []
    for edit in edits:
        now = templates.wording(edit.relation, own.get(edit.fact)) or Wording(edit.prompt)
        also = names.get(edit.object_key, ())
        request = EditRequest(
            edit.relation, edit.subject, edit.prompt, edit.object, now.paraphrases, now.question, also, now.wordings
        )
        if request.id != edit.request:
            raise LedgerError(
                f"{ledger.path} is damaged: edit {edit.id} ({edit.relation} of {edit.subject}) is not as it was"
                " written; put back a copy of it, or choose another --home (`kbsync verify` says what else is wrong)"
            )
        found.append(request)
    return found
