"""``kbsync mend train`` on the small model, and the network that is found again."""

from pathlib import Path

import pytest

from kbsync.errors import EditError, LedgerError
from kbsync.models import load_model
from kbsync.sync.practice import mend_network
from tests.homes import Editable, done, kbsync, make_home
from tests.tiny_models import CAPITALS

LAST_THREE = (1, 2, 3)


def test_a_network_is_trained_kept_and_found_again(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=CAPITALS)
    loaded = load_model(small.name, device="cpu")
    with pytest.raises(EditError, match="no MEND network is trained for"):
        mend_network(home / "tensors", loaded)
    told = done("mend", "train", "--home", home, *small.model, "--steps", 12, "--json").json
    assert (told["source"], told["facts"], told["steps"]) == ("ledger", 20, 12)
    assert tuple(told["layers"]) == LAST_THREE
    assert all(loss > 0 for loss in told["edit_loss"])
    assert all(loss >= 0 for loss in told["locality_loss"])
    file = Path(told["file"])
    network = mend_network(home / "tensors", loaded)
    assert sum(parameter.numel() for parameter in network.parameters()) == told["parameters"]
    before = file.read_bytes()
    shown = done("mend", "train", "--home", home, *small.model, "--steps", 13)
    assert "MEND on layers 1, 2, 3" in shown.out
    assert file.read_bytes() != before  # the new one took its place
    assert [path for path in file.parent.iterdir() if path.name.startswith("mend1-")] == [file]
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(LedgerError, match="not what kbsync wrote"):
        mend_network(home / "tensors", loaded)


def test_too_few_facts_are_refused(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"France": "Paris", "Norway": "Oslo"})
    ran = kbsync("mend", "train", "--home", home, *small.model)
    assert ran.code == 1
    assert "MEND edits 8 facts in a step, and of the 2 that it is to train on 2 have another object" in ran.err
