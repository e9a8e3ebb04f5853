"""The tree's laws: imports go down the floors only, one area speaks to other processes, and help costs nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import beichen
from tests.shared_data import REPOSITORY

PACKAGE = Path(beichen.__file__).parent

BASE = ("errors", "util", "config")  # what all others may import
ALL_ABOVE = "all above"


def read_table(page: str) -> dict[str, set[str]]:
    """Area -> what it may import, from the table of CONTRIBUTING.md; ``inference.api`` is that module alone."""
    found: dict[str, set[str]] = {}
    for area, below in re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", page, re.MULTILINE):
        named = set(re.findall(r"`([\w.]+)`", below))
        assert named or below.strip() in ("", ALL_ABOVE), f"{area}: {below}"
        found[area] = (set(found) if below.strip() == ALL_ABOVE else named) | (set() if area in BASE else set(BASE))
    return found


MAY_IMPORT = read_table((REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"))
DISTRIBUTED_ONLY_IN = "parallel"


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name == "errors.py")


def area_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, at its top or late, as dotted names; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_allowed(area: str, target: str) -> bool:
    parts = target.split(".")[1:]  # without 'beichen'
    if parts[0] not in MAY_IMPORT:  # names of the package itself: __version__
        return parts[0].startswith("__")
    return parts[0] == area or parts[0] in MAY_IMPORT[area] or ".".join(parts[:2]) in MAY_IMPORT[area]


def test_every_area_has_its_floor():
    assert {area_of(path) for path in sources()} <= MAY_IMPORT.keys() and {*BASE, "nn", "cli"} <= MAY_IMPORT.keys()


def test_the_table_is_read_as_it_is_meant():
    rows = ["| area | holds | may import |", "|---|---|---|", "| `util` | files | |", "| `nn` | `maths` | |",
            "| `data` | rows | `nn`, `text.api` |", "| `cli` | the rest | all above |", "| no area | at all | |"]  # fmt: skip
    assert read_table("\n".join(rows)) == {
        "util": set(), "nn": set(BASE), "data": {*BASE, "nn", "text.api"}, "cli": {*BASE, "nn", "data"},
    }  # fmt: skip


def test_the_table_has_no_ring():
    seen: set[str] = set()
    for area, below in MAY_IMPORT.items():
        assert {name.partition(".")[0] for name in below} <= seen, f"{area} may import an area that stands later in the table"
        seen.add(area)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    targets = {name for name in imported(ast.parse(path.read_text())) if name.startswith("beichen.")}
    wrong = sorted(name for name in targets if not is_allowed(area_of(path), name))
    assert not wrong, f"{area_of(path)} may import {sorted(MAY_IMPORT[area_of(path)])} only"


def names_distributed(tree: ast.AST) -> bool:
    dotted = any(name.startswith("torch.distributed") for name in imported(tree))
    return dotted or any(
        isinstance(node, ast.Attribute) and node.attr == "distributed" and isinstance(node.value, ast.Name) and node.value.id == "torch"
        for node in ast.walk(tree)
    )


def test_one_area_names_torch_distributed():
    areas = {area_of(path) for path in sources() if names_distributed(ast.parse(path.read_text()))}
    assert areas <= {DISTRIBUTED_ONLY_IN}


@pytest.mark.parametrize("line", ["import torch.distributed", "from torch import distributed", "torch.distributed.barrier()",
                                  "import torch.distributed as dist", "from torch.distributed import all_reduce"])  # fmt: skip
def test_the_check_for_distributed_sees(line):
    assert names_distributed(ast.parse(line))


def test_a_forbidden_import_would_be_seen():
    assert not is_allowed("nn", "beichen.text.tokenizer")
    assert not is_allowed("evaluation", "beichen.inference.generation")
    assert is_allowed("evaluation", "beichen.inference.api.Generator")
    assert not is_allowed("data", "beichen.load")


HEAVY = {"torch", "numpy", "transformers", "tokenizers", "jsonargparse", "yaml", "rich", "matplotlib"}


@pytest.mark.parametrize("code", ["import beichen", "from beichen.cli.main import main; main(['--help'])",
                                  "from beichen.cli.main import main; main(['--version'])"])  # fmt: skip
def test_help_loads_nothing_heavy(code):
    program = f"{code}\nimport sys\nprint('loaded:', *sorted({HEAVY!r} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").rglob("*.py")), ids=lambda path: path.name)
def test_commands_import_heavy_things_late(path):
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {name.partition(".")[0] for name in imported(ast.Module(body=list(top), type_ignores=[]))}
    assert not names & HEAVY
