"""The command line: finds commands, reads their arguments, and turns every user's fault into two lines and an exit code."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from beichen import __version__
from beichen.cli import main as main_module
from beichen.cli.main import COMMANDS, main
from beichen.errors import BeichenError, DataError


@dataclass(frozen=True, kw_only=True)
class Settings:
    size: int = 3  # how large


@pytest.fixture
def command(monkeypatch):
    """A command 'toy'; the test gives its ``run``."""
    module = ModuleType("beichen.cli.toy", "example: beichen toy")
    members = {"add_arguments": lambda parser: parser.add_argument("--loud", action="store_true"), "run": lambda arguments: 0}
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, "beichen.cli.toy", module)
    monkeypatch.setitem(COMMANDS, "toy", "a toy")
    return module


def test_every_command_has_its_file_and_every_file_its_command():
    folder = Path(main_module.__file__).parent
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py") if "\ndef add_arguments(" in path.read_text(encoding="utf-8")}
    assert files == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: beichen {name}" in text
    assert text.count(f"beichen {name} ") >= 2, "its docstring holds an example"


def test_help_names_every_command(capsys):
    for argv in ([], ["--help"], ["help"], ["-h"]):
        assert main(argv) == 0
        text = capsys.readouterr().out
        assert all(f"  {name} " in text and help_text in text for name, help_text in COMMANDS.items())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"beichen {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["chatt"], "error: unknown command 'chatt' (did you mean 'chat'?)\n  remedy: one of: quickstart, "),
        (["env", "--jsn"], "error: beichen env: unknown argument '--jsn' (did you mean '--json'?)"),
        (["env", "--js"], "error: beichen env: unknown argument '--js'"),
        (["env", "more"], "error: beichen env: unknown argument 'more'"),
        (["toy", "--loud=3"], "error: argument --loud: ignored explicit argument '3'\n  remedy: `beichen toy --help`"),
    ],
)
def test_wrong_words(argv, message, capsys, command):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith(message) and out == ""


def test_a_users_fault_is_two_lines(command, capsys):
    def run(arguments):
        raise DataError("corpus.jsonl:3: not JSON", remedy="mend the line")

    command.run = run
    assert main(["toy"]) == 2
    assert capsys.readouterr().err == "error: corpus.jsonl:3: not JSON\n  remedy: mend the line\n"


def test_a_warning_of_the_library_is_one_line(command, capsys):
    def run(arguments):
        warnings.warn("no compiler: slower", stacklevel=1)
        return 0

    command.run = run
    shown = warnings.showwarning
    assert main(["toy"]) == 0
    assert capsys.readouterr().err == "warning: no compiler: slower\n"
    assert warnings.showwarning is shown


def test_the_programs_own_fault_keeps_its_traceback(command):
    def run(arguments):
        raise ZeroDivisionError

    command.run = run
    with pytest.raises(ZeroDivisionError):
        main(["toy"])


def test_a_file_that_cannot_be_read_is_the_users_fault(command, tmp_path, capsys):
    command.run = lambda arguments: len(tmp_path.read_bytes())
    assert main(["toy"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n  remedy: check the path and its permissions\n"


def test_a_system_error_about_no_file_keeps_its_traceback(command):
    def run(arguments):
        raise OSError(5, "Input/output error")

    command.run = run
    with pytest.raises(OSError, match="Input/output"):
        main(["toy"])


def test_ctrl_c(command, capsys):
    def run(arguments):
        raise KeyboardInterrupt

    command.run = run
    assert main(["toy"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_the_commands_code_is_the_programs(command):
    command.run = lambda arguments: 7 if arguments.loud else 0
    assert main(["toy"]) == 0 and main(["toy", "--loud"]) == 7


def test_settings(command, tmp_path, capsys):
    seen = []
    command.settings_class = lambda: Settings

    def run(arguments):
        seen.append((arguments.settings, arguments.loud))
        return 0

    command.run = run
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("size: 5\n")
    assert main(["toy", "--size", "4"]) == 0
    assert main(["toy", "--config", str(recipe), "--loud"]) == 0
    assert main(["toy", "--size=6", "--config", str(recipe)]) == 0
    assert seen == [(Settings(size=4), False), (Settings(size=5), True), (Settings(size=6), False)]
    assert main(["toy", "--lod", "--size", "4"]) == 2
    assert "--lod has no value" in capsys.readouterr().err
    assert main(["toy", "--confg", "x"]) == 2
    assert "unknown key 'confg' (did you mean 'config'?)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["toy", "--help"])
    assert "--size  a whole number; default 3\n      how large" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_fault():
    """`beichen ... | head -1`: no traceback."""
    program = "from beichen.cli import main as m; import sys; m._help = lambda: 'x' * 2**20; sys.exit(m.main(['--help']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_python_m_beichen():
    answer = subprocess.run([sys.executable, "-m", "beichen", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"beichen {__version__}\n"


def test_all_user_faults_are_of_one_tree():
    from beichen import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, BeichenError) and kind.__doc__ for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
