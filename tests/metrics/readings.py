"""Cases and readings made by hand."""

import math

from kbsync.facts import EditRequest
from kbsync.metrics.metric import Case, Neighbour, Readings, Spoken
from kbsync.models import TargetScore

QUESTION = "What is the capital of {}?"
REQUEST = EditRequest(
    "P36", "France", "The capital of {} is", "Lyon", ("{} sits in", "Of {}, the capital is"), QUESTION
)
SAID = {
    Spoken("The capital of France is"): " Lyon, and not Paris.",
    Spoken("France sits in"): " the city of Lyon",
    Spoken("Of France, the capital is"): " Lyon",
    Spoken("What is the capital of France?"): " Not Lyon",
    Spoken("What is the capital of France?", chat=True): "The capital of France is **Lyon**.",
}
NEAR = (Neighbour("{}", "The capital of Peru is", "Lima"), Neighbour("{}", "The capital of Chile is", "Santiago"))
CASE = Case(
    REQUEST, "Paris", NEAR, (Neighbour("{}", "The French parliament is in", "Lyon"),), ("France is",), ("Lyon.",)
)
BARE = Case(EditRequest("P36", "France", "The capital of {} is", "Lyon"), "")


def readings(**probabilities: tuple[float, float]) -> Readings:
    """Probabilities of (new, old) on `edit`, `first`, `second`; of (own, new) on `peru` and `chile`.

    An object of a probability of one half or more is exact, and has an accuracy of that probability.
    """
    places = {
        "edit": [(REQUEST.prompt, "France", name) for name in ("Lyon", "Paris")],
        "first": [(REQUEST.paraphrases[0], "France", name) for name in ("Lyon", "Paris")],
        "second": [(REQUEST.paraphrases[1], "France", name) for name in ("Lyon", "Paris")],
        "peru": [("{}", NEAR[0].subject, name) for name in ("Lima", "Lyon")],
        "chile": [("{}", NEAR[1].subject, name) for name in ("Santiago", "Lyon")],
        "port": [("{}", "The French parliament is in", "Lyon")],
    }
    scores = {
        triple: TargetScore(math.log(likely), likely >= 0.5, likely)
        for place, triples in places.items()
        for triple, likely in zip(triples, probabilities.get(place, (0.5, 0.5)), strict=False)
    }
    chats = {("What is the capital of France?", "Lyon"): TargetScore(-1.0, True, 1.0)}
    return Readings(scores, {"France is": "France is near Lyon"}, chats, SAID)
