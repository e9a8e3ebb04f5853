"""Settings from recipes and words: what is written is what is read, and every fault names its key, its place and the remedy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.config import parse_settings, read_settings, settings_as_dict, settings_as_yaml
from beichen.config.sources import read_yaml
from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    rate: float = 1e-3
    name: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise SettingsError(f"rate={self.rate}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class Source:
    path: Path
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise SettingsError("budget: give steps or minutes")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    size: int
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(name="muon"))
    second: Optimizer | None = None
    sources: tuple[Source, ...] = ()
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    title: str = ""
    note: str | None = None
    seed: int | None = None
    strict: bool = False


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def fault(*words: str, file: Path | None = None, kind: type = Recipe) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_settings(kind, words, [] if file is None else [file])
    return str(caught.value)


def test_a_recipe_with_everything(tmp_path):
    file = write(
        tmp_path,
        """
size: 64          # a comment
optimizer: {rate: 3e-4, betas: [0.8, 1]}
second:
  name: muon
sources:
  - path: a/文本.jsonl
    weight: 1e-2
  - {path: b}
files: [x, y]
names: ['1', no, on, 12:30]
title: no
seed: null
strict: true
""",
    )
    assert parse_settings(Recipe, [], [file]) == Recipe(
        size=64,
        optimizer=Optimizer(rate=3e-4, name="muon", betas=(0.8, 1.0)),
        second=Optimizer(name="muon"),
        sources=(Source(path=Path("a/文本.jsonl"), weight=0.01), Source(path=Path("b"))),
        files=(Path("x"), Path("y")),
        names=("1", "no", "on", "12:30"),
        title="no",
        strict=True,
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Recipe(size=1)),
        (["--optimizer.rate", "1e-4"], Recipe(size=1, optimizer=Optimizer(rate=1e-4, name="muon"))),
        (["--optimizer.rate=1e-4"], Recipe(size=1, optimizer=Optimizer(rate=1e-4, name="muon"))),
        (["--optimizer", "{rate: 1e-4}", "--optimizer.name", "adamw"], Recipe(size=1, optimizer=Optimizer(rate=1e-4))),
        (["--optimizer.betas", "0.1", "0.2"], Recipe(size=1, optimizer=Optimizer(name="muon", betas=(0.1, 0.2)))),
        (["--second.rate", "2"], Recipe(size=1, second=Optimizer(rate=2.0))),
        (["--second.rate", "2", "--second", "null"], Recipe(size=1)),
        (["--files", "null.txt", "b"], Recipe(size=1, files=(Path("null.txt"), Path("b")))),
        (["--files", "[a, b]"], Recipe(size=1, files=(Path("a"), Path("b")))),
        (["--files", "notes"], Recipe(size=1, files=(Path("notes"),))),
        (["--names", "1", "null"], Recipe(size=1, names=("1", "null"))),
        (["--sources", "[{path: a, weight: 2}]"], Recipe(size=1, sources=(Source(path=Path("a"), weight=2.0),))),
        (["--title", "12"], Recipe(size=1, title="12")),
        (["--title", "a: [b"], Recipe(size=1, title="a: [b")),
        (["--title="], Recipe(size=1)),
        (["--note", "12"], Recipe(size=1, note="12")),
        (["--seed", "-5"], Recipe(size=1, seed=-5)),
        (["--seed", "5", "--seed", "6"], Recipe(size=1, seed=6)),
        (["--seed", "5", "--seed", "null"], Recipe(size=1)),
        (["--strict", "true"], Recipe(size=1, strict=True)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words(words, expected):
    assert parse_settings(Recipe, ["--size", "1", *words]) == expected


def test_words_win_over_files_and_later_files_over_earlier(tmp_path):
    first = write(tmp_path, "size: 1\nseed: 1\noptimizer: {rate: 1, name: adamw}\nfiles: [a, b]", "first.yaml")
    second = write(tmp_path, "seed: 2\noptimizer: {rate: 2}\nfiles: [c]", "second.yaml")
    got = parse_settings(Recipe, ["--optimizer.rate", "3"], [first, second])
    assert got == Recipe(size=1, seed=2, optimizer=Optimizer(rate=3.0, name="adamw"), files=(Path("c"),))


def test_a_base_gives_what_is_not_said():
    base = Recipe(size=7, optimizer=Optimizer(rate=5.0))
    assert parse_settings(Recipe, ["--optimizer.name", "muon"], base=base) == Recipe(size=7, optimizer=Optimizer(rate=5.0, name="muon"))


def test_an_empty_file_says_nothing(tmp_path):
    assert parse_settings(Recipe, ["--size", "3"], [write(tmp_path, "# nothing\n")]) == Recipe(size=3)


@pytest.mark.parametrize("written", [".nan", "-.inf", "nan", "1e999"])
def test_no_setting_is_nan_or_infinite(tmp_path, written):
    assert "optimizer.rate: expected a number, got" in fault(file=write(tmp_path, f"size: 1\noptimizer: {{rate: {written}}}"))
    assert "--optimizer.rate: expected a number, got" in fault("--size", "1", "--optimizer.rate", written)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sise", "2"], "--sise: unknown key 'sise' (did you mean 'size'?); valid keys: size, optimizer"),
        (["--siz", "2"], "--siz: unknown key 'siz' (did you mean 'size'?)"),
        (["--optimizer.rat", "1"], "--optimizer.rat: unknown key 'rat' in 'optimizer' (did you mean 'rate'?)"),
        (["--optimizer.rate", "fast"], "--optimizer.rate: expected a number, got 'fast'"),
        (["--optimizer.rate", "1", "2"], "--optimizer.rate: expected a number, got '1 2'"),
        (["--optimizer.rate", "-1"], "optimizer.rate=-1.0: must be above 0"),
        (["--optimizer.rate.x", "1"], "optimizer.rate: expected a number"),
        (["--second.rate", "0"], "second.rate=0.0: must be above 0"),
        (["--optimizer.name", "sgd"], "--optimizer.name: expected one of 'adamw', 'muon', got 'sgd'"),
        (["--optimizer.betas", "1"], "expected a list of 2: a number, a number, got ['1']"),
        (["--optimizer", "3"], "--optimizer: expected a section of keys, got 3"),
        (["--optimizer", "[3"], "--optimizer: not valid YAML"),
        (["--sources", "[{path: a, weight: z}]"], "--sources: sources[0].weight: expected a number, got 'z'"),
        (["--sources", "[{weight: 1}]"], "sources[0].path is not set: expected a path"),
        (["--sources", "a"], "--sources: sources[0]: expected a section of keys, got 'a'"),
        (["--seed", "1.5"], "--seed: expected a whole number or null, got '1.5'"),
        (["--strict", "perhaps"], "--strict: expected true or false, got 'perhaps'"),
        (["--strict"], "--strict has no value"),
        (["alone"], "'alone' stands alone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_faults_of_words(words, message):
    assert message in fault(*words, *([] if words == ["alone"] else ["--size", "1"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size: 1\noptimiser:\n  rate: 1\n", "{file}:2: unknown key 'optimiser' (did you mean 'optimizer'?)"),
        ("size: 1\noptimizer:\n  name: adamw\n  rat: 1\n", "{file}:4: unknown key 'rat' in 'optimizer' (did you mean 'rate'?)"),
        ("size: 1\noptimizer:\n  rate: fast\n", "{file}:3: optimizer.rate: expected a number, got 'fast'"),
        ("size: 1\noptimizer:\n  rate: -1\n", "{file}:3: optimizer.rate=-1.0: must be above 0"),
        ("size: 1.5\n", "{file}:1: size: expected a whole number, got 1.5"),
        ("size: true\n", "{file}:1: size: expected a whole number, got True"),
        ("seed: 3\n", "{file}:1: size is not set: expected a whole number (in the recipe, or --size VALUE)"),
        ("size: 1\nsize: 2\n", "{file}:2: key 'size' is given twice"),
        ("size: 1\nfiles: a\n", "{file}:2: files: expected a list of paths, got 'a'"),
        ("size: 1\ntitle: 3\n", "{file}:2: title: expected text, got 3"),
        ("size: 1\nsources:\n - path: a\n - b\n", "{file}:4: sources[1]: expected a section of keys, got 'b'"),
        ("size: 1\noptimizer: [\n", "{file}:3: not valid YAML"),
        ("size: !!python/name:os.system\n", "not valid YAML"),
        ("- 1\n", "{file}:1: expected settings as `key: value` lines, got list"),
        ("optimizer: null\nsize: 1", "{file}:1: optimizer: expected a section of keys, got None"),
    ],
)
def test_faults_of_files(tmp_path, text, message):
    file = write(tmp_path, text)
    assert message.format(file=file) in fault(file=file)


def test_all_faults_are_shown_together(tmp_path):
    file = write(tmp_path, "sise: 1\noptimizer:\n  rate: x\n  beta: 1\n")
    lines = fault("--seed", "y", file=file).splitlines()
    assert lines[0] == "several settings are wrong:" and len(lines) == 6  # two unknown, two of a wrong type, one missing


def test_a_fault_of_a_whole_section_names_it():
    @dataclass(frozen=True, kw_only=True)
    class Run:
        budget: Budget

    Run.__annotations__["budget"] = Budget
    assert fault(kind=Run) == "budget: give steps or minutes"
    assert parse_settings(Run, ["--budget.steps", "3"]).budget.steps == 3


def test_a_word_near_a_flag_of_the_command_names_the_flag():
    with pytest.raises(SettingsError, match=r"did you mean 'config'\?"):
        parse_settings(Recipe, ["--size", "1", "--confg", "x"], flags=("config", "json"))


@pytest.mark.parametrize(("content", "message"), [(b"size: \xff", "not UTF-8 text (byte 6)"), (None, "cannot be read: No such file")])
def test_unreadable_files(tmp_path, content, message):
    file = tmp_path / "recipe.yaml"
    if content is not None:
        file.write_bytes(content)
    assert message in fault(file=file) and str(file) in fault(file=file)


def test_an_error_of_the_program_is_not_taken_for_the_users():
    @dataclass(frozen=True)
    class Broken:
        size: int = 1

        def __post_init__(self) -> None:
            raise ZeroDivisionError

    Broken.__annotations__["size"] = int
    with pytest.raises(ZeroDivisionError):
        parse_settings(Broken)


numbers = st.floats(allow_nan=False, min_value=1e-30, max_value=1e30)
optimizers = st.builds(Optimizer, rate=numbers, name=st.sampled_from(["adamw", "muon"]), betas=st.tuples(numbers, numbers))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
paths = st.text("abc文/. -", min_size=1, max_size=8).map(Path)
recipes = st.builds(
    Recipe,
    size=st.integers(),
    optimizer=optimizers,
    second=st.none() | optimizers,
    sources=st.lists(st.builds(Source, path=paths, weight=numbers), max_size=3).map(tuple),
    files=st.lists(paths, max_size=3).map(tuple),
    names=st.lists(texts, max_size=3).map(tuple),
    title=texts,
    note=st.none() | texts,
    seed=st.none() | st.integers(),
    strict=st.booleans(),
)


@settings(max_examples=40)
@given(recipes)
def test_settings_survive_writing_and_reading(tmp_path_factory, recipe):
    """Law: parse(as_yaml(s)) == s == read(as_dict(s)), whatever the texts hold."""
    file = write(tmp_path_factory.mktemp("recipes"), settings_as_yaml(recipe))
    assert parse_settings(Recipe, [], [file]) == recipe
    assert read_settings(Recipe, settings_as_dict(recipe)) == recipe


@settings(max_examples=100)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | numbers | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))
)
def test_yaml_values_keep_their_types(tmp_path_factory, value):
    file = write(tmp_path_factory.mktemp("values"), settings_as_yaml({"value": value}))
    assert read_yaml(file).plain() == {"value": value}


@dataclass(frozen=True, kw_only=True)
class Limits:
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if any(value is not None and value <= 0 for value in (self.steps, self.minutes)):
            raise SettingsError("limits: steps and minutes must be above 0")


@dataclass(frozen=True, kw_only=True)
class Limited:
    limits: Limits = field(default_factory=Limits)
    out: str


def test_a_word_is_not_blamed_on_the_recipe_nor_a_recipe_on_a_word(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("out: a\nlimits:\n  minutes: 1\n")
    with pytest.raises(SettingsError, match=r"^--limits\.steps: .*must be above 0"):
        parse_settings(Limited, ["--limits.steps", "0"], [recipe])
    recipe.write_text("out: a\nlimits:\n  minutes: 0\n")
    with pytest.raises(SettingsError, match=r"r\.yaml:2: .*must be above 0"):
        parse_settings(Limited, ["--out", "b"], [recipe])


def test_a_caller_is_not_told_of_flags():
    with pytest.raises(SettingsError, match=r"^recipe: out is not set: expected text$"):
        read_settings(Limited, {}, name="recipe")
    with pytest.raises(SettingsError, match="or --out VALUE"):
        parse_settings(Limited, [])
