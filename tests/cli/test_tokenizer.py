import io
import json
import shutil
import sys
import warnings

import pytest

from beichen.cli.main import main
from beichen.evaluation.fonts import families
from beichen.text.tokenizer import read_tokenizer
from tests.cli.model_folder import model_folder as model_folder
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
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

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
        (("decode", "1", "--allow-special"), "unknown argument '--allow-special'"),
        (("encode", "a", "--skip-special"), "unknown argument '--skip-special'"),
    ],
)
def test_bad_input_is_named(folder, capsys, arguments, words):
    code, _, err = run(capsys, arguments[0], folder, *arguments[1:])
    assert code == 2 and words in err


def test_a_folder_without_a_tokenizer(tmp_path, capsys):
    code, _, err = run(capsys, "encode", tmp_path, "a")
    assert code == 2 and "holds no tokenizer.json, tokenizer.model or *.tiktoken" in err


TEXTS = ["上海的春天，天气很好。", "the student reads a book", "三百二十五 apples"] * 30


@pytest.fixture
def corpus(tmp_path):
    for number in range(2):
        lines = [json.dumps({"text": f"{text} {number}"}, ensure_ascii=False) for text in TEXTS]
        (tmp_path / f"part{number}.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_train_writes_a_folder_that_loads_and_says_what_it_did(corpus, capsys):
    out = corpus / "out"
    arguments = ("train", "--input", corpus / "part*.jsonl", "--vocab-size", 320, "--out", out, "--memory", "64MiB")
    code, printed, _ = run(capsys, *arguments, "--reserved", 3, "--special-id", "<_reserved_1>=300")
    tokenizer = read_tokenizer(out)
    assert code == 0 and "320 ids" in printed and "every word counted" in printed
    assert tokenizer.special_ids["<_reserved_1>"] == 300 and tokenizer.special_ids["<_reserved_2>"] == 14
    assert json.loads((out / "training.json").read_text())["texts"] == 180
    assert not (corpus / "out.training").exists()
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    code, _, err = run(capsys, *arguments, "--pattern", "qwen2")
    assert code == 2 and f"{out} holds a tokenizer already, and nothing is overwritten" in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == made
    code, printed, _ = run(capsys, *arguments[:-3], corpus / "other", "--json", "--pattern", "qwen2")
    assert code == 0 and json.loads(printed)["record"]["pattern"] == "qwen2"


def test_train_goes_on_where_it_was_killed_while_writing(corpus, capsys):
    out = corpus / "out"
    arguments = ("train", "--input", corpus / "part0.jsonl", "--vocab-size", 300, "--out", out, "--work", corpus / "work")
    assert run(capsys, *arguments)[0] == 0
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "training.json").unlink()  # written last
    assert run(capsys, *arguments)[0] == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == made
    shutil.rmtree(corpus / "work")
    (out / "training.json").unlink()
    assert run(capsys, *arguments)[0] == 2, "a tokenizer of somebody else"


def test_a_text_too_short_for_the_wish_is_said(corpus, capsys):
    code, printed, err = run(capsys, "train", "--input", corpus / "part0.jsonl", "--vocab-size", 1_000_000, "--out", corpus / "out")
    reached = read_tokenizer(corpus / "out").vocab_size
    assert code == 0 and f"{reached} ids" in printed
    assert "the text is too short for 1,000,000 ids" in err and f"so there are {reached:,}" in err


def test_train_with_tokens_of_ones_own(corpus, capsys):
    out = corpus / "own"
    arguments = ("train", "--input", corpus / "part0.jsonl", "--vocab-size", 300, "--out", out, "--special", "<s>", "</s>")
    assert run(capsys, *arguments, "--end", "</s>", "--special-last")[0] == 0
    tokenizer = read_tokenizer(out)
    assert tokenizer.special_ids == {"<s>": 298, "</s>": 299} and tokenizer.end_id == 299 and tokenizer.template is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memory", "much"), "--memory: 'much' is no amount of memory"),
        (("--special-id", "x"), "'x' is not NAME=ID"),
        (("--special", "<a>"), "which of the control tokens ends a document?"),
        (("--memory", "1MiB"), "at least"),
        (("--pattern", "qwen"), "invalid choice: 'qwen'"),
    ],
)
def test_bad_settings_of_training_are_named(corpus, capsys, arguments, words):
    code, _, err = run(capsys, "train", "--input", corpus / "part0.jsonl", "--vocab-size", 300, "--out", corpus / "x", *arguments)
    assert code == 2 and words in err


def test_report_compares_by_domain_and_draws(corpus, folder, capsys):
    inputs = ("--input", f"one={corpus / 'part0.jsonl'}", corpus / "part1.jsonl")
    code, out, _ = run(capsys, "report", f"small={folder}", f"again={folder}", *inputs, "--plot", corpus / "bars.png")
    assert code == 0 and (corpus / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["one", "small"],
        ["one", "again"],
        ["part1", "small"],
        ["part1", "again"],
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = (f"甲={folder}", "--input", f"新闻={corpus / 'part0.jsonl'}", "--plot", corpus / "chinese.png")
        code, out, err = run(capsys, "report", *names)
    assert code == 0 and "新闻" in out
    assert ("domain 1: 新闻" in err and "series 1: 甲" in err) == (len(families()) == 1)
    code, out, _ = run(capsys, "report", folder, *inputs, "--json")
    row = json.loads(out)["domains"][0]
    texts = [f"{text} 0" for text in TEXTS]
    assert row["bytes"] == sum(len(text.encode()) for text in texts)
    assert row["tokens"] == sum(len(small_tokenizer().encode(text)) for text in texts)
    code, _, err = run(capsys, "report", folder, folder, *inputs)
    assert code == 2 and "named twice" in err


def test_extend_adds_to_a_tokenizer_alone(corpus, folder, capsys):
    out = corpus / "longer"
    code, printed, _ = run(capsys, "extend", folder, "--out", out, "--control", "<think>", "--words", "春天")
    tokenizer = read_tokenizer(out)
    size = small_tokenizer().vocab_size
    assert code == 0 and f"{size} ids before, {size + 2} now" in printed and "'春天'  was [e6] + [98] + [a5] + '天'" in printed
    assert tokenizer.special_ids["<think>"] == size and tokenizer.encode("春天") == [size + 1]
    code, printed, _ = run(capsys, "extend", out, "--out", corpus / "learnt", "--learn", 3, "--input", corpus / "part0.jsonl", "--json")
    facts = json.loads(printed)
    assert code == 0 and facts["rows"] is None and sorted(facts["added"].values()) == [size + 2, size + 3, size + 4]


def test_extend_gives_a_checkpoint_rows(model_folder, tmp_path, capsys):
    code, printed, _ = run(capsys, "extend", model_folder, "--out", tmp_path / "longer", "--control", "<think>", "--multiple", 8, "--json")
    facts = json.loads(printed)
    assert code == 0 and facts["rows"] % 8 == 0 and facts["rows"] > facts["ids"] - 1
    assert main(["generate", str(tmp_path / "longer"), "--prompt", "a", "--max-new-tokens", "2", "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to add"),
        (("--learn", 5), "--learn says how many pieces"),
        (("--control", "<_end>"), "one token already"),
        (("--learn", 5, "--input", "x.jsonl", "--memory", "much"), "--memory: 'much' is no amount of memory"),
    ],
)
def test_bad_extensions_are_named(folder, tmp_path, capsys, arguments, words):
    code, _, err = run(capsys, "extend", folder, "--out", tmp_path / "x", *arguments)
    assert code == 2 and words in err
