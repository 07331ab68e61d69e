"""The settings: coerced by field type, refused where they fit no model, recorded whole, and all of them read."""

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import kbsync
from kbsync.errors import SettingsError
from kbsync.memit import MemitSettings, Preset, default_settings, load_preset, preset_names, write_preset
from kbsync.resources import preset_file

PACKAGE = Path(kbsync.__file__).parent
NAMES = sorted(field.name.rstrip("_") for field in fields(MemitSettings))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "5e-1", 0.5),
        ("lr", "1", 1.0),
        ("lambda", "15000", 15000.0),
        ("lambda", 300, 300.0),
        ("steps", "30", 30),
        ("steps", " 30 ", 30),
        ("layers", "0,1,2", (0, 1, 2)),
        ("layers", "0, 1 ,2", (0, 1, 2)),
        ("layers", "3", (3,)),
        ("layers", [0, 4], (0, 4)),
        ("layers", ["0", "4"], (0, 4)),
        ("context_starts", "The,As for", ("The", "As for")),
        ("context_starts", ["In 1987", 5], ("In 1987", "5")),
        ("contexts", 0, 0),
        ("covariance_tokens", "5000", 5000),
        ("covariance_tokens", "none", None),
        ("covariance_tokens", None, None),
    ],
)
def test_values_are_read_as_the_fields_type(name: str, text: Any, value: Any) -> None:
    settings = MemitSettings().with_values({name: text})
    found = getattr(settings, "lambda_" if name == "lambda" else name)
    assert found == value
    assert type(found) is type(value)


def test_yaml_reads_as_text_what_is_a_number() -> None:
    content = yaml.safe_load("lr: 5e-1\nlambda: 2e4\nlayers: [1, 2]")
    assert content["lr"] == "5e-1"  # the reason for the coercion
    settings = MemitSettings().with_values(content)
    assert (settings.lr, settings.lambda_, settings.layers) == (0.5, 20000.0, (1, 2))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 3.5, "steps: 3.5 is not a whole number"),
        ("steps", 3.0, "steps: 3.0 is not a whole number"),
        ("steps", "x", "steps: 'x' is not a whole number"),
        ("steps", "3.5", "steps: '3.5' is not a whole number"),
        ("steps", "", "steps: '' is not a whole number"),
        ("steps", None, "steps: None is not a whole number"),
        ("steps", "²", "steps: '²' is not a whole number"),
        ("steps", [1], r"steps: \[1\] is not a whole number"),
        ("covariance_tokens", "many", "covariance_tokens: 'many' is not a whole number"),
        ("lr", "fast", "lr: 'fast' is not a number"),
        ("lr", None, "lr: None is not a number"),
        ("lambda", [1.0], r"lambda: \[1.0\] is not a number"),
        ("layers", "1,x", "layers: 'x' is not a whole number"),
        ("layers", [0.5], "layers: 0.5 is not a whole number"),
        ("layers", 3, "layers: 3 is not a list such as 0,1,2"),
        ("layers", "", "layers: '' is not a whole number"),
    ],
)
def test_a_value_of_another_type_is_told(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        MemitSettings().with_values({name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layers", [], r"layers: \[\] are not ascending"),
        ("layers", "2,1", r"layers: \[2, 1\] are not ascending"),
        ("layers", "1,1", r"layers: \[1, 1\] are not ascending"),
        ("layers", "-1,2", "layers: -1 is below 0"),
        ("lambda", 0, "lambda: 0.0 is not above 0"),
        ("lambda", -5, "lambda: -5.0 is not above 0"),
        ("lambda", "nan", "lambda: nan is not above 0"),
        ("lambda", "inf", "lambda: inf is not above 0"),
        ("lr", 0, "lr: 0.0 is not above 0"),
        ("clamp_norm_factor", 0, "clamp_norm_factor: 0.0 is not above 0"),
        ("weight_decay", -0.1, "weight_decay: -0.1 is not 0 or more"),
        ("weight_decay", "nan", "weight_decay: nan is not 0 or more"),
        ("kl_factor", "-inf", "kl_factor: -inf is not 0 or more"),
        ("contexts", -1, "contexts: -1 is not 0 or more"),
        ("steps", 0, "steps: 0 is not 1 or more"),
        ("sweeps", 0, "sweeps: 0 is not 1 or more"),
        ("context_tokens", 0, "context_tokens: 0 is not 1 or more"),
        ("covariance_tokens", 0, "covariance_tokens: 0 is not 1 or more"),
        ("sequence_length", 7, "sequence_length: 7 is not 8 or more"),
        ("context_starts", [], r"context_starts: \(\) is not at least one text"),
    ],
)
def test_a_value_that_fits_no_model_is_told(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        MemitSettings().with_values({name: value})


def test_the_least_values_that_fit() -> None:
    least = {"layers": "0", "weight_decay": 0, "kl_factor": 0, "steps": 1, "sweeps": 1}
    settings = MemitSettings().with_values({**least, "contexts": 0, "context_starts": [], "sequence_length": 8})
    assert settings.context_starts == ()


@pytest.mark.parametrize("name", ["nonsense", "Layers", "step", "lambda__", ""])
def test_an_unknown_setting_lists_the_known_ones(name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        MemitSettings().with_values({"steps": 3, name: 1})
    assert str(raised.value) == f"unknown setting {name!r}; known: {', '.join(NAMES)}"


def test_what_is_not_given_stays() -> None:
    settings = MemitSettings(layers=(1, 2), steps=7)
    changed = settings.with_values({"lr": 0.1})
    assert (changed.layers, changed.steps, changed.lr) == ((1, 2), 7, 0.1)
    assert settings.lr == 0.5
    assert settings.with_values({}) == settings


def test_the_record_gives_the_settings_again() -> None:
    settings = MemitSettings(layers=(0, 3), lambda_=12.5, sweeps=4, context_starts=("A", "B"))
    record = settings.as_dict()
    assert sorted(record) == NAMES
    assert MemitSettings().with_values(record) == settings
    assert MemitSettings().with_values(yaml.safe_load(yaml.safe_dump(record))) == settings


def test_a_larger_group_has_more_room_and_more_steps() -> None:
    settings = MemitSettings(clamp_norm_factor=0.5, steps=20)
    assert [settings.group_clamp(members) for members in (1, 4)] == [0.5, 1.0]
    assert [settings.group_steps(members) for members in (1, 2, 6)] == [20, 24, 40]


def test_a_model_without_a_preset_gets_settings_by_its_size() -> None:
    """Layers of GPT-J's depth are GPT-J's, and those of SmolLM2 what was measured there."""
    assert default_settings(28, 16384).layers == (3, 4, 5, 6, 7, 8)
    preset = load_preset("smollm2-135m")
    assert preset is not None
    assert replace(default_settings(30, 1536), lambda_=3000.0, stop_weight=0.2) == preset.settings
    assert default_settings(30, 1536).lambda_ == pytest.approx(3000, rel=0.01)
    assert default_settings(4, 256).layers == (0, 1)
    assert default_settings(2, 8).layers == (0,)


@pytest.mark.parametrize("said", [True, "true", "True"])
def test_one_setting_switches_off_all_that_is_added(said: object) -> None:
    own = default_settings(30, 1536)
    found = own.with_values({"published": said, "steps": 30})
    paper = MemitSettings()
    assert found == replace(paper, layers=own.layers, lambda_=own.lambda_, steps=30, clamp_norm_factor=2.0)
    assert own.with_values({"published": "false"}) == own
    with pytest.raises(SettingsError, match="published: 'perhaps' is neither"):
        own.with_values({"published": "perhaps"})


def test_every_preset_loads() -> None:
    assert set(preset_names()) >= {"practice", "gpt-j", "gpt-neox-20b", "gpt2-xl", "llama-3-8b", "smollm2-135m"}
    for name in preset_names():
        preset = load_preset(name)
        assert preset is not None
        assert preset.name == name
        assert preset.model
    assert load_preset("nonesuch") is None
    assert load_preset("../settings") is None


def test_a_homes_presets_come_first_and_are_written_as_they_are_read(tmp_path: Path) -> None:
    settings = MemitSettings(layers=(2, 3), lambda_=0.25, sweeps=3, context_starts=("Löwe: x", "1987"))
    for name in ("own", "gpt-j"):
        made = Preset(name, "some/model", settings, "/texts/corpus.txt", package="some_model/file.gguf")
        write_preset(tmp_path / "presets" / f"{name}.yaml", made, "found by measurement")
        assert load_preset(name, tmp_path) == made
    assert load_preset("own") is None
    assert load_preset("gpt-j") != made
    assert load_preset("practice", tmp_path) == load_preset("practice")
    with pytest.raises(SettingsError, match=r"cannot write the preset .*own\.yaml: File exists"):
        write_preset(tmp_path / "presets" / "own.yaml", made, "again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {layers: [1]}", "may hold model, settings"),
        ("model: x", "may hold model, settings"),
        ("- model", "may hold model, settings"),
        ("{model: x, settings: {}, steps: 3}", "may hold model, settings"),
        ("{model: 3, settings: {}}", "may hold model, settings"),
        ("{model: x, settings: [3]}", "may hold model, settings"),
        ("{model: x, settings: {step: 3}}", "unknown setting 'step'"),
        ("model: [", "cannot be read"),
    ],
)
def test_a_file_that_is_no_preset_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "own.yaml").write_text(text)
    with pytest.raises(SettingsError, match=rf"own\.yaml.*{message}"):
        load_preset("own", tmp_path)


def test_the_published_settings() -> None:
    """As the paper and its authors' repository give them (DESIGN section 2)."""
    gpt_j, neox, xl = (load_preset(name) for name in ("gpt-j", "gpt-neox-20b", "gpt2-xl"))
    assert gpt_j is not None
    assert neox is not None
    assert xl is not None
    assert gpt_j.settings == MemitSettings(
        layers=(3, 4, 5, 6, 7, 8),
        lambda_=15000.0,
        steps=25,
        lr=0.5,
        clamp_norm_factor=0.75,
        weight_decay=0.5,
        kl_factor=0.0625,
        sweeps=1,
    )
    assert (neox.settings.layers, neox.settings.lambda_) == ((6, 7, 8, 9, 10), 20000.0)
    assert (neox.settings.steps, neox.settings.clamp_norm_factor) == (20, 0.3)
    assert (xl.settings.layers, xl.settings.lambda_, xl.settings.steps) == ((13, 14, 15, 16, 17), 20000.0, 20)


def read_fields() -> set[str]:
    """Names that are looked up on settings: `settings.x` anywhere in the package, `self.x` in their own methods."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and name_of(node.value) == "settings":
                found.add(node.attr)
            if path.name == "settings.py" and isinstance(node, ast.FunctionDef) and node.name.startswith("group_"):
                found |= {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}
    return found


def name_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def test_there_is_no_field_that_nobody_reads() -> None:
    assert {field.name for field in fields(MemitSettings)} - read_fields() == set()


def test_presets_that_are_called_published_are_the_published_method() -> None:
    published = {
        name: load_preset(name)
        for name in preset_names()
        if "published" in preset_file(name).read_text().splitlines()[0]  # type: ignore[union-attr]
    }
    assert published.keys() == {"gpt-j", "gpt-neox-20b", "gpt2-xl"}
    for preset in published.values():
        assert preset is not None
        settings = preset.settings
        assert (settings.sweeps, settings.rest_weight) == (1, 0)
        assert (settings.lr, settings.weight_decay, settings.kl_factor) == (0.5, 0.5, 0.0625)
