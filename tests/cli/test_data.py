"""`beichen data`: what it converts reads back, what it shows and counts is what it says, and faults are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beichen.cli.main import main
from beichen.data.dialogue_files import read_dialogues
from tests.shared_data import shared
from tests.text.trained import small_tokenizer

RECORDS = [
    {"instruction": "问", "input": "", "output": "答"},
    {"instruction": "q", "input": "i", "output": "a", "history": [["x", "y"]]},
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A file of dialogues, a folder with a tokenizer."""
    small_tokenizer("telechat2").save(tmp_path / "tokenizer")
    (tmp_path / "alpaca.json").write_text(json.dumps(RECORDS))
    return str(tmp_path / "alpaca.json"), str(tmp_path / "tokenizer")


def test_convert_writes_what_reads_back(files, tmp_path, capsys):
    out = tmp_path / "messages.jsonl"
    assert main(["data", "convert", files[0], "--out", str(out)]) == 0
    assert "2 samples" in capsys.readouterr().err
    read, written = ([one.messages for one in read_dialogues([path])] for path in (files[0], out))
    assert read == written
    assert main(["data", "convert", files[0]]) == 0
    assert capsys.readouterr().out == out.read_text()


def test_convert_overwrites_nothing_not_even_its_input(files, tmp_path, capsys):
    out, before = tmp_path / "messages.jsonl", Path(files[0]).read_bytes()
    for taken in (Path(files[0]), out):
        out.write_text("mine\n")
        assert main(["data", "convert", files[0], "--out", str(taken)]) == 2
        assert f"{taken} exists, and nothing is overwritten" in capsys.readouterr().err
    assert Path(files[0]).read_bytes() == before and out.read_text() == "mine\n"


def test_pages_and_pictures_of_ours_are_drawn_anew_and_nothing_else(files, tmp_path, capsys):
    kinds = {"page.html": ["preview", files[0], "--html"], "lengths.png": ["stats", files[0], "--png"]}
    for name, (action, file, option) in kinds.items():
        command, place = ["data", action, file, "--tokenizer", files[1], option], tmp_path / name
        for foreign in (b"<!doctype html><p>mine", b"\x89PNG mine", b""):
            place.write_bytes(foreign)
            assert main([*command, str(place)]) == 2
            assert "no page or picture that Beichen drew" in capsys.readouterr().err and place.read_bytes() == foreign
        place.unlink()
        assert main([*command, str(place)]) == 0
        drawn, written = place.read_bytes(), place.stat().st_mtime_ns
        assert main([*command, str(place)]) == 0
        assert place.stat().st_mtime_ns > written and len(place.read_bytes()) == len(drawn)
    assert main(["data", "preview", files[0], "--tokenizer", files[1], "--html", str(tmp_path)]) == 2


def test_a_dry_run_lists_every_fault(tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([json.dumps(RECORDS[0]), *['{"instruction": "q", "output": ""}'] * 25, "{"]))
    assert main(["data", "convert", str(path), "--dry-run"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("the content is empty") == 25 and "bad.jsonl:27: not JSON" in shown.err
    assert main(["data", "convert", str(path), "--dry-run", "--strict"]) == 2
    assert main(["data", "convert", str(path), "--strict"]) == 2
    assert "bad.jsonl:2: turn 1 (assistant): the content is empty" in capsys.readouterr().err


def test_preview_in_the_terminal_and_as_a_page(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["data", "preview", files[0], "--tokenizer", files[1], "--template", "telechat2-bare", "--answers", "last"]) == 0
    text = capsys.readouterr().out
    assert f"{files[0]}:2" in text and "<_user>x<_bot>y<_end>\n<_user>q\ni<_bot>a<_end>" in text
    assert "row 1 of 1: 2 dialogues" in text and text.count("\n┃") == 2
    page = tmp_path / "page.html"
    assert main(["data", "preview", files[0], "--tokenizer", files[1], "--html", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: 2 samples, 1 row\n"
    assert page.read_text().startswith("<!doctype html>")


def test_stats(files, tmp_path, capsys):
    png = tmp_path / "lengths.png"
    command = ["data", "stats", files[0], "--tokenizer", files[1], "--template", "telechat2-bare", "--png", str(png)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "2 dialogues" in text and "assistant " in text and files[0] in text
    assert png.read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["dialogues"] == 2 and facts["sources"][files[0]]["dialogues"] == 2 and facts["read"]["used"]["items"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preview", "{file}"], "--model --tokenizer is required"),
        (["preview", "{file}", "--tokenizer", "{tokenizer}", "--sequence-length", "1"], "at least 2 tokens"),
        (["stats", "{file}", "--tokenizer", "{tokenizer}", "--template", "telechat3"], "no chat template is called 'telechat3'"),
        (["convert", "{file}.missing"], "no such file"),
        (["convert", "{file}", "--placeholders", "name"], "expected name=value"),
        ([], "required: ACTION"),
    ],
)
def test_faults_of_users_are_named(files, capsys, words, message):
    assert main(["data", *(word.format(file=files[0], tokenizer=files[1]) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_verify_names_the_damaged_shard(files, tmp_path, capsys):
    corpus, out = tmp_path / "corpus.txt", tmp_path / "text"
    corpus.write_text("\n\n".join(f"some text, number {number}" for number in range(40)))
    words = ["data", "encode", "--input", str(corpus), "--tokenizer", files[1], "--out", str(out), "--workers", "1"]
    assert main(words) == 0 and main(["data", "verify", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"{out}: no fault found\n")
    shard = out / "corpus" / "train" / "shard-00000.bin"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert main(["data", "verify", str(out)]) == 1
    assert f"  FAULT     {shard}: content differs from the checksum in its header" in capsys.readouterr().out
    assert main(["data", "verify", str(out), "--quick"]) == 0 and main(words) == 0, "the header is as it was"
    capsys.readouterr()
    assert main(["data", "verify", str(out), "--json"]) == 1 and "checksum" in json.loads(capsys.readouterr().out)["faults"][0]
    shard.write_bytes(content[:-8])
    assert main(words) == 2 and f"{shard}: " in capsys.readouterr().err


def test_parts_say_that_duplicates_are_found_within_them(files, tmp_path, capsys):
    words = ["data", "encode", "--input", files[0], "--tokenizer", files[1], "--workers", "1", "--text-key", "output", "--held-out", "0"]
    warning = "warning: --part 1/2: duplicates are found within this part only, not across parts"
    for number, (more, said) in enumerate(
        [(["--part", "1/2", "--duplicates", "exact"], True), (["--part", "1/2"], False), (["--duplicates", "exact"], False)]
    ):
        assert main([*words, "--out", str(tmp_path / str(number)), *more]) == 0
        assert (warning in capsys.readouterr().err) is said


@pytest.mark.parametrize("action", ["convert", "encode", "preview", "stats", "verify"])
def test_every_action_explains_itself(action, capsys):
    with pytest.raises(SystemExit) as left:
        main(["data", action, "--help"])
    assert left.value.code == 0
    assert f"beichen data {action} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kto_en_demo.json", "all 135 records were refused, the first"),
        ("dataset_info.json", "an index of data sets"),
    ],
)
def test_a_file_of_another_kind_says_what_it_is(files, capsys, name, reason):
    assert main(["data", "stats", str(shared(f"data/sft/llamafactory/{name}")), "--tokenizer", files[1]]) == 2
    assert reason in capsys.readouterr().err.split("error:")[1]
