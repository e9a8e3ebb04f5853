import io
import json
import sys

import pytest

from beichen.cli.main import main
from tests.inference.small_models import small_tokenizer


@pytest.fixture
def folder(tmp_path):
    small_tokenizer().save(tmp_path)
    return str(tmp_path)


def run(capsys, *arguments):
    code = main(["tokenizer", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_encode_shows_every_piece_and_its_bytes(folder, capsys):
    text = "今天🙂 <_end>"
    code, out, _ = run(capsys, "encode", folder, text)
    ids = small_tokenizer().encode(text)
    lines = out.splitlines()
    assert code == 0 and len(lines) == len(ids) + 2
    assert [int(line.split()[0]) for line in lines[1:-1]] == ids
    assert "e5 a4 a9" in out and "control" not in out
    assert lines[-1] == f"{len(ids)} tokens, {len(text)} characters, {len(text.encode())} bytes"


def test_json_holds_what_decode_gives_back(folder, capsys):
    text = "hello\n今天 <_user>"
    code, out, _ = run(capsys, "encode", folder, text, "--json", "--allow-special")
    facts = json.loads(out)
    assert code == 0 and facts["ids"] == small_tokenizer().encode(text, allow_special=True)
    assert bytes.fromhex("".join(piece["bytes"] for piece in facts["pieces"])).decode() == text
    assert [piece["piece"] for piece in facts["pieces"] if piece["control"]] == ["<_user>"]
    assert json.loads(run(capsys, "decode", folder, *facts["ids"], "--json")[1])["text"] == text
    assert json.loads(run(capsys, "decode", folder, *facts["ids"], "--json", "--skip-special")[1])["text"] == text.removesuffix("<_user>")


def test_standard_input_is_read_to_the_byte(folder, capsys, monkeypatch):
    def typed(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    typed("今天\r\n".encode())
    assert json.loads(run(capsys, "encode", folder, "--json")[1])["ids"] == small_tokenizer().encode("今天\r\n")
    typed(b"[1, 2,\n3]")
    assert json.loads(run(capsys, "decode", folder, "--json")[1])["ids"] == [1, 2, 3]
    typed(b"\xff")
    code, _, err = run(capsys, "encode", folder)
    assert code == 2 and "not UTF-8: byte 0" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("decode", "5", "999999"), "id 999999 is outside this vocabulary"),
        (("decode", "five"), "'five' is not an id"),
        (("decode", "1", "--allow-special"), "--allow-special goes with encode"),
        (("encode", "a", "--skip-special"), "--skip-special with decode"),
    ],
)
def test_bad_input_is_named(folder, capsys, arguments, words):
    code, _, err = run(capsys, arguments[0], folder, *arguments[1:])
    assert code == 2 and words in err


def test_a_folder_without_a_tokenizer(tmp_path, capsys):
    code, _, err = run(capsys, "encode", tmp_path, "a")
    assert code == 2 and "holds no tokenizer.json, tokenizer.model or *.tiktoken" in err
