"""What is exported is the edited model, in each form; and each file tells what it holds."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config

from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.ledger import Ledger
from kbsync.memit import WeightDelta, edited
from kbsync.models import load_model
from kbsync.models.scoring import render
from kbsync.sync.export import Form, ended_by_signals, export, unfinished
from kbsync.sync.export_files import factors
from kbsync.sync.home import Loading
from kbsync.sync.publish import audit
from tests.e2e.commands import start
from tests.gguf_file import write_gguf
from tests.homes import COUNTRIES, SWAPPED, deltas_of, edit_by_hand, make_home
from tests.tiny_models import SEED, byte_level_tokenizer, random_folder, randomise

PROMPTS = [f"The capital of {country} is" for country in COUNTRIES]
QUESTIONS = [f"What is the capital of {country}?" for country in COUNTRIES]
CHAT = (
    "{% for turn in messages %}[{{ turn.role }}]\n{{ turn.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
FACTS = {country: SWAPPED[country] for country in COUNTRIES[:4]}
LAYERS = (1, 2)
RANK = 5


@dataclass(frozen=True, slots=True)
class Edited:
    """A random model, and a home that has deltas of rank `RANK` for it."""

    source: str
    home: Path

    def export(self, folder: Path, format_: str = "checkpoint", **how: Any) -> dict[str, Any]:
        return export(self.home, self.source, folder, Form(format_, **how))

    def logits(self, model: Any = None) -> torch.Tensor:
        """Of the edited model or, where one is given, of that; after a chat's question where the model chats."""
        loaded = load_model(self.source, device="cpu")
        text = render(loaded.tokenizer, QUESTIONS[0]) if loaded.tokenizer.chat_template else PROMPTS[0]
        ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad(), edited(loaded, {} if model else deltas_of(self.home)):
            found: torch.Tensor = (model or loaded.model)(input_ids=ids).logits
        return found


def hand_edited(source: str, home: Path) -> Edited:
    loaded = load_model(source, device="cpu")
    generator = torch.Generator().manual_seed(SEED)
    d, m = loaded.weight(1).shape
    deltas = {
        layer: WeightDelta(torch.randn(d, RANK, generator=generator) / 2, torch.randn(RANK, m, generator=generator) / 2)
        for layer in LAYERS
    }
    return Edited(source, edit_by_hand(home, source, deltas, FACTS))


CONFIGS = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
SIZES: dict[str, Any] = {
    **{"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"intermediate_size": 64, "sliding_window": None},  # rows that are long enough for Q8_0
}


def llama_like(name: str, folder: Path) -> Path:
    """A random model of the Llama family that chats, without a sliding window."""
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHAT
    end = tokenizer.eos_token_id
    config = CONFIGS[name](**SIZES, vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end)
    model = AutoModelForCausalLM.from_config(config)
    randomise(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> "Made":
    """By name: a Llama or its like as a folder, a Llama as a GGUF file, or a random model of another family."""
    base, found = tmp_path_factory.mktemp("exports"), dict[str, Edited]()

    def make(name: str) -> Edited:
        if name not in found:
            source = base / "tiny.gguf"
            if name == "gguf":
                write_gguf(Path(make("llama").source), source)
            elif name in CONFIGS:
                source = llama_like(name, base / f"{name}-model")
            else:
                source = random_folder(tmp_path_factory.getbasetemp(), name)
            found[name] = hand_edited(str(source), base / name)
        return found[name]

    return make


Made = Callable[[str], Edited]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_transformers_opens_a_checkpoint_and_it_says_the_same(made: Made, name: str, tmp_path: Path) -> None:
    of = made(name)
    done = of.export(tmp_path / "deep" / "out")
    assert (done["edits"], done["batch"], done["dtype"], done["model"]) == (4, 1, "float32", of.source)
    opened = AutoModelForCausalLM.from_pretrained(done["folder"])
    own, before = (AutoTokenizer.from_pretrained(place) for place in (done["folder"], of.source))
    assert own(PROMPTS)["input_ids"] == before(PROMPTS)["input_ids"]
    assert own.chat_template == before.chat_template == (CHAT if name == "llama" else None)
    base = load_model(of.source, device="cpu").model
    assert torch.equal(of.logits(opened), of.logits())
    assert not torch.equal(of.logits(base), of.logits())
    assert max(done["deviation"].values()) < 1e-5
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["gpt2", "gptj", "llama"])
def test_peft_opens_a_lora_and_it_says_the_same(made: Made, name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="LoRA adapters are opened with peft: pip install peft")
    of = made(name)
    done = of.export(tmp_path / "out", "lora")
    assert done["rank"] == 16  # the smallest, where five would do
    assert max(done["deviation"].values()) < 1e-5
    base = AutoModelForCausalLM.from_pretrained(of.source)
    adapted = peft.PeftModel.from_pretrained(base, done["folder"])
    torch.testing.assert_close(of.logits(adapted), of.logits(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(of.logits(adapted.merge_and_unload()), of.logits(), rtol=1e-3, atol=1e-3)
    assert done["figures"]["recall"].keys() == {"edited", "file"}
    (adapter,) = done["folder"].glob("*.safetensors")
    assert adapter.stat().st_size < Path(of.source, "model.safetensors").stat().st_size


def test_a_lora_of_too_low_a_rank_is_the_nearest_one(made: Made, tmp_path: Path) -> None:
    of = made("llama")
    done = of.export(tmp_path / "out", "lora", rank=2)
    for layer, delta in deltas_of(of.home).items():
        values = torch.linalg.svdvals(delta)
        lost = float(values[2:].norm() / values.norm())
        assert done["deviation"][str(layer)] == pytest.approx(lost, abs=1e-4)
        left, found, right = factors(delta)
        torch.testing.assert_close((left * found) @ right, delta.double(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[:RANK].float(), values[:RANK], rtol=1e-4, atol=1e-5)
    with pytest.raises(SettingsError, match="--rank 33: the layers of this model have ranks of 1 to 32"):
        of.export(tmp_path / "more", "lora", rank=33)
    assert not (tmp_path / "more").exists()


def parts_of(file: Path) -> tuple[dict[str, bytes], dict[str, tuple[int, bytes]]]:
    """The bytes of each piece of metadata and of each tensor (with its type)."""
    reader = GGUFReader(file)
    fields = {name: b"".join(part.tobytes() for part in one.parts) for name, one in reader.fields.items()}
    return fields, {one.name: (int(one.tensor_type), one.data.tobytes()) for one in reader.tensors}


@pytest.mark.parametrize("quant", ["F16", "Q8_0"])
def test_a_gguf_file_differs_in_the_edited_tensors_and_our_metadata_alone(
    made: Made, quant: str, tmp_path: Path
) -> None:
    of = made("gguf")
    done = of.export(tmp_path / "out", "gguf", quant=quant)
    (file,) = done["folder"].glob("*.gguf")
    (fields, tensors), (new_fields, new_tensors) = parts_of(Path(of.source)), parts_of(file)
    counted = "GGUF.kv_count"
    assert new_fields.keys() - fields.keys() == {"kbsync.bill"}
    assert {name for name in fields if fields[name] != new_fields[name]} == {counted}
    assert list(new_tensors) == list(tensors)
    changed = {name for name in tensors if tensors[name] != new_tensors[name]}
    assert changed == {f"blk.{layer}.ffn_down.weight" for layer in LAYERS}
    # A file of the same size but for what two tensors and the bill add: no byte that is not accounted for.
    grown = sum(len(new_tensors[name][1]) - len(tensors[name][1]) for name in changed)
    assert abs(file.stat().st_size - Path(of.source).stat().st_size - grown - len(new_fields["kbsync.bill"])) < 32
    read = load_model(str(file), device="cpu").model
    torch.testing.assert_close(of.logits(read), of.logits(), rtol=0.1, atol=1.0)
    assert max(done["deviation"].values()) < {"F16": 1e-3, "Q8_0": 2e-2}[quant]


def test_a_second_export_onto_an_exported_file_has_one_bill(made: Made, tmp_path: Path) -> None:
    of = made("gguf")
    (first,) = of.export(tmp_path / "one", "gguf", quant="Q8_0")["folder"].glob("*.gguf")
    (second,) = of.export(tmp_path / "two", "gguf", onto=first)["folder"].glob("*.gguf")
    (direct,) = of.export(tmp_path / "three", "gguf")["folder"].glob("*.gguf")
    assert second.read_bytes() == direct.read_bytes()


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_a_checkpoint_becomes_a_gguf_file(made: Made, name: str, tmp_path: Path) -> None:
    of = made(name)
    (file,) = of.export(tmp_path / "out", "gguf")["folder"].glob("*.gguf")
    read = load_model(str(file), device="cpu")
    own = load_model(of.source, device="cpu").tokenizer
    assert [read.tokenizer.tokenize(text) for text in PROMPTS] == [own.tokenize(text) for text in PROMPTS]
    torch.testing.assert_close(of.logits(read.model), of.logits(), rtol=0.05, atol=0.2)
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".gguf", ".json", ".md"]


def test_what_cannot_be_a_gguf_file_is_told(made: Made, tmp_path: Path) -> None:
    with pytest.raises(KbsyncError, match=r"model type 'gptj' is not one that is written as GGUF .* --onto"):
        made("gptj").export(tmp_path / "out", "gguf")
    with pytest.raises(SettingsError, match=r"rows of 48, and Q8_0 needs a multiple of 32: use --quant F16"):
        made("llama-biased").export(tmp_path / "out", "gguf", quant="Q8_0")
    with pytest.raises(KbsyncError, match=r"tiny.gguf is of another model: it has no tensor blk.1.ffn_down.weight"):
        made("gpt2").export(tmp_path / "out", "gguf", onto=Path(made("gguf").source))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "quant"), [("gguf", "F16"), ("gguf", "Q8_0"), ("llama", "F16"), ("llama-biased", "F16"), ("qwen2", "Q8_0")]
)
def test_llama_cpp_answers_as_the_edited_model_does(made: Made, name: str, quant: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="GGUF files are run with llama.cpp: pip install xllamacpp")
    of = made(name)
    (file,) = of.export(tmp_path / "out", "gguf", quant=quant)["folder"].glob("*.gguf")
    loaded = load_model(of.source, device="cpu")
    chats = [render(loaded.tokenizer, one) for one in QUESTIONS] if loaded.tokenizer.chat_template else []
    assert bool(chats) == (name != "llama-biased")
    asking = Path(__file__).with_name("ask_llama_cpp.py")
    given = json.dumps([PROMPTS, QUESTIONS if chats else []])
    ran = subprocess.run([sys.executable, asking, file], input=given, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    for texts, said in zip((PROMPTS, chats), json.loads(ran.stdout), strict=True):
        rows = [loaded.tokenizer(text, return_tensors="pt") for text in texts]
        with torch.no_grad():
            base = [int(loaded.model(**row).logits[0, -1].argmax()) for row in rows]
            with edited(loaded, deltas_of(of.home)):
                wanted = [int(loaded.model(**row).logits[0, -1].argmax()) for row in rows]
        same = [one == other for one, other in zip(said, wanted, strict=True) if one is not None]
        assert len(same) >= len(texts) / 3
        assert sum(same) >= len(same) - (1 if quant == "F16" else 3)
        assert base != wanted or not texts


FORMS = [("llama", "checkpoint"), ("llama", "lora"), ("llama", "delta"), ("gguf", "gguf")]


@pytest.mark.parametrize(("name", "format_"), FORMS)
def test_audit_names_batch_and_facts(made: Made, name: str, format_: str, tmp_path: Path) -> None:
    of = made(name)
    folder = of.export(tmp_path / "out", format_)["folder"]
    (file,) = (one for one in folder.iterdir() if one.suffix in (".safetensors", ".gguf"))
    asked = ["France P36", "france  P36", "Poland P36", "France P6"]
    for place in (folder, file):
        alone = audit(place, asked, home=tmp_path / "nohome")
        bill = alone["bill"]
        assert (bill.batch, bill.edits, bill.format) == (1, 4, format_)
        assert [one["held"] for one in alone["facts"]] == [True, True, False, False]
        assert (alone["changed"], alone["ledger"], alone["agrees"]) == ([], None, None)
        assert "France" not in str(bill)
    known = audit(file, asked, home=of.home, weights=True)
    assert known["agrees"]
    assert (known["ledger"], known["facts"][0]["object"]) == ("the weights are what batch 1 gives", SWAPPED["France"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nbase_model: ")
    assert "| P36 | 4 |" in card
    assert "facts.yaml (4)" in card
    assert json.loads((folder / "kbsync.json").read_text())["base_sha256"] == bill.base_sha256


@pytest.mark.parametrize(("name", "format_"), FORMS)
def test_audit_tells_a_tensor_that_was_changed(made: Made, name: str, format_: str, tmp_path: Path) -> None:
    folder = made(name).export(tmp_path / "out", format_)["folder"]
    (file,) = (one for one in folder.iterdir() if one.suffix in (".safetensors", ".gguf"))
    data = bytearray(file.read_bytes())
    if format_ == "gguf":
        victim = next(one for one in GGUFReader(file).tensors if one.name == "blk.0.ffn_up.weight")
        name, place = victim.name, victim.data_offset
    else:
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        name = sorted(header.keys() - {"__metadata__"})[0]
        place = 8 + size + header[name]["data_offsets"][0]
    data[place + 1] ^= 1
    file.write_bytes(data)
    found = audit(folder, home=tmp_path / "nohome")
    assert found["changed"] == [name]


def test_audit_holds_a_file_against_the_ledger(made: Made, tmp_path: Path) -> None:
    of, other = made("llama"), made("gpt2")
    folder = of.export(tmp_path / "out")["folder"]
    assert "no batch 1 of this base model" in audit(folder, home=other.home)["ledger"]
    twin = hand_edited(of.source, tmp_path / "twin")  # the same model and deltas, but other times: another batch
    with Ledger.open(twin.home) as ledger, ledger.writer("test"), ledger.changing() as db:
        db.execute("UPDATE batches SET settings = '{}'")
    found = audit(folder, home=twin.home)
    assert (found["ledger"], found["agrees"]) == ("batch 1 is another one in the ledger", False)
    # Weights that are not the batch's, under a bill that fits them.
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.down_proj.weight"] *= 1.5
    save_file(tensors, file)
    with pytest.raises(KbsyncError, match="carries no bill of materials"):
        audit(file, home=of.home)


def test_an_offloaded_model_is_written_whole(made: Made, tmp_path: Path) -> None:
    of = made("gptj")
    export(of.home, of.source, tmp_path / "plain")
    export(of.home, of.source, tmp_path / "offloaded", loading=Loading("auto", max_memory={"cpu": "50KB"}))
    plain, offloaded = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "offloaded"))
    assert plain.keys() == offloaded.keys()
    assert all(torch.equal(plain[name], offloaded[name]) for name in plain)


def test_an_empty_folder_is_taken_and_a_full_one_is_not(made: Made, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    made("gpt2").export(tmp_path / "out")
    held = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "kbsync.json"} <= set(held)
    (tmp_path / "file").write_text("mine")
    for target in ("out", "file"):
        with pytest.raises(SettingsError, match=f"{target} exists already: name a new folder with --to"):
            made("gpt2").export(tmp_path / target)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == held
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(KbsyncError, match=r"cannot write .*file/out: "):
        made("gpt2").export(tmp_path / "file" / "out")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_it_as_the_umask_says(umask: int, mode: int, made: Made, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        done = made("gpt2").export(tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in done["folder"].iterdir()} == {mode}
    assert done["folder"].stat().st_mode & 0o777 == 0o777 & ~umask


def test_nothing_was_applied(made: Made, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"France": "Oslo"})
    with pytest.raises(LedgerError, match=r"nothing was applied to .*: run `kbsync apply` first"):
        export(home, made("gpt2").source, tmp_path / "out")
    with pytest.raises(LedgerError, match="no ledger in"):
        export(tmp_path / "nohome", made("gpt2").source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_unfinished_folder_away(number: signal.Signals, tmp_path: Path) -> None:
    was = signal.signal(number, signal.SIG_DFL)  # under nohup a hangup is ignored, by kbsync too
    before = signal.getsignal(number)

    def write() -> None:
        with ended_by_signals(), unfinished(tmp_path) as made:
            made.mkdir()
            (made / "model.safetensors").write_bytes(b"half")
            signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        write()
    assert ended.value.code == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before
    signal.signal(number, was)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_leaves_nothing_beside_its_target(
    number: signal.Signals, made: Made, tmp_path: Path
) -> None:
    target = tmp_path / "to" / "out"
    running = start(tmp_path, "export", "--model", made("gpt2").source, "--home", made("gpt2").home, "--to", target)
    running.wait_for(lambda: target.parent.exists() and any(target.parent.iterdir()))
    running.send(number)
    ended = running.end().code
    assert ended in (0, 128 + number), running.said  # it may have come too late
    assert list(target.parent.iterdir()) == ([] if ended else [target])


def test_the_next_export_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".kbsync-export-{dead.pid}-0a", f".kbsync-export-{os.getpid()}-0b", ".kbsync-export-mine"):
        (tmp_path / name).mkdir()
    with unfinished(tmp_path) as made:
        made.mkdir()
        made.rename(tmp_path / "out")
    left = {f".kbsync-export-{os.getpid()}-0b", ".kbsync-export-mine", "out"}
    assert {path.name for path in tmp_path.iterdir()} == left
