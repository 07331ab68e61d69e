"""MEND's network for a model: trained on facts that the model knows, kept in the home, found again by the weights.

A network may be trained without some subjects, those that it is to be measured on; it is kept beside the one for use.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from kbsync.editors import known_values
from kbsync.editors.mend import MendNetwork, read_network, weights_of
from kbsync.editors.mend_train import MendSettings, train_mend
from kbsync.errors import EditError
from kbsync.facts import EditRequest, content_id, normalise_label
from kbsync.ledger import Ledger, read_metadata, read_tensors, replace_tensors
from kbsync.memit.settings import changed
from kbsync.models import LoadedModel
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.model import ModelChoice, choose_model
from kbsync.sync.practice import facts_to_ask, known_requests

SHOWN_SHARE = 10
"""the losses that are told are means over this part of the steps, a tenth, at the beginning and at the end"""


@dataclass(frozen=True, slots=True)
class MendOptions:
    """What the user asks of a training."""

    model: str
    facts: int
    """known facts to train on, at most or a few more"""
    steps: int | None = None
    """None is the model's, or the default"""
    loading: Loading = AS_STORED


@dataclass(frozen=True, slots=True)
class TrainedMend:
    """A network that was trained and kept; losses are means over the first and the last tenth of the steps."""

    model: str
    source: str
    """where the facts are from: ledger or fixtures"""
    facts: int
    """known ones that it was trained on"""
    steps: int
    layers: tuple[int, ...]
    parameters: int
    edit_loss: tuple[float, float]
    """-log P of the new object on another wording"""
    locality_loss: tuple[float, float]
    """KL(before || after) on the objects of unrelated facts"""
    seconds: float
    file: Path


def train_network(home: Path, options: MendOptions, progress: Progress = silent) -> TrainedMend:
    """Train MEND's network for a model and keep it in `home`, in the place of an earlier one of the same weights.

    Raises EditError where the model knows too few facts.
    """
    with Ledger.open(home) as ledger, ledger.writer(f"mend train {options.model}"):
        asked = facts_to_ask(home, ledger, None)
        choice = choose_model(options.model, home=home, loading=options.loading, progress=progress)
        return train_for(ledger, choice, asked, options.facts, options.steps, progress)


def train_for(
    ledger: Ledger,
    choice: ModelChoice,
    asked: tuple[Sequence[EditRequest], str],
    facts: int,
    steps: int | None,
    progress: Progress = silent,
    *,
    without: Collection[str] = (),
) -> TrainedMend:
    """Train on those of the facts `asked` (and where they are from) that a loaded model knows; keep the network.

    Facts about the subjects `without` are left out. Raises EditError where too few are left.
    """
    requests, source = asked
    kept_out = {normalise_label(subject) for subject in without}
    requests = [one for one in requests if normalise_label(one.subject) not in kept_out]
    known, _ = known_requests(choice.loaded, requests, facts, progress)
    given = {} if steps is None else {"steps": steps}
    settings = changed(MendSettings(), known_values(choice.name, "mend_train") | given)
    began = time.monotonic()
    trained = train_mend(choice.loaded, known, settings, progress)
    seconds = round(time.monotonic() - began, 2)
    network = trained.network
    file = network_file(ledger.tensors, network.weights, without)
    replace_tensors(file, network.state_dict(), network.metadata())
    return TrainedMend(
        choice.name,
        source,
        len(known),
        len(trained.edit_losses),
        tuple(network.layers),
        sum(parameter.numel() for parameter in network.parameters()),
        ends(trained.edit_losses),
        ends(trained.locality_losses),
        seconds,
        file,
    )


def has_network(tensors: Path, loaded: LoadedModel, without: Collection[str] = ()) -> bool:
    """Return whether a home's tensors hold a network for the weights of `loaded`, trained without these subjects."""
    return network_file(tensors, weights_of(loaded), without).exists()


def mend_network(tensors: Path, loaded: LoadedModel, without: Collection[str] = ()) -> MendNetwork:
    """Return the network that is kept in a home's tensors for the weights of `loaded`, trained without these subjects.

    Raises EditError where there is none, LedgerError for a damaged file, ModelError for one of other weights.
    """
    file = network_file(tensors, weights_of(loaded), without)
    if not file.exists():
        raise EditError(f"no MEND network is trained for {loaded.source} here: run `kbsync mend train --model ...`")
    return read_network(read_tensors(file), read_metadata(file), loaded)


def network_file(tensors: Path, weights: str, without: Collection[str] = ()) -> Path:
    """Return where the network for a model of these weights (SHA-256), trained without these subjects, lies."""
    named = [weights, sorted({normalise_label(subject) for subject in without})] if without else weights
    return tensors / f"{content_id('mend1', named).replace(':', '-')}.safetensors"


def ends(losses: tuple[float, ...]) -> tuple[float, float]:
    """Return the means of the first and the last tenth."""
    part = max(1, len(losses) // SHOWN_SHARE)
    return round(fmean(losses[:part]), 4), round(fmean(losses[-part:]), 4)
