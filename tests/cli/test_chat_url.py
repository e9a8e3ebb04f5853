"""``beichen chat --url``: against ``beichen serve``'s own application."""

from __future__ import annotations

import json

import pytest

import beichen
from beichen.cli.chat_url import AnswerPrinter
from beichen.cli.main import main
from beichen.inference.api import Delta
from beichen.inference.remote import RemoteDelta
from tests.cli.model_folder import model_folder as model_folder
from tests.serve.live_server import live_server


def test_the_answers_are_those_of_the_model(model_folder, tmp_path, monkeypatch, capsys):
    model = beichen.load(model_folder, device="cpu", dtype="float32")
    (tmp_path / "key").write_text("s3cret\n")
    (tmp_path / "other").write_text("guess\n")
    with live_server(model, keys=("s3cret",)) as live:
        given = ["chat", "--url", live.url + "/v1", "--api-key-file", str(tmp_path / "key"), "--max-new-tokens", "8"]
        answer = model.chat([{"role": "user", "content": "你好"}], max_new_tokens=8)
        assert main([*given, "--message", "你好"]) == 0
        assert capsys.readouterr().out == answer.text + "\n"
        assert main([*given, "--message", "你好", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["answer"], facts["finish_reason"], facts["tokens"]) == (answer.text, answer.finish_reason, len(answer.ids))
        typed = iter(["你好", "/save " + str(tmp_path / "talk.jsonl"), "exit"])
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
        assert main(given) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"small at {live.url}/v1. /help") and answer.text in said
        saved = json.loads((tmp_path / "talk.jsonl").read_text())["messages"]
        assert saved == [{"role": "user", "content": "你好"}, {"role": "assistant", "content": answer.text}]
        for flags, told in (
            (["--model", "smal"], "no model 'smal' (did you mean 'small'"),
            (["--quantize", "int8"], "--quantize is the server's own affair"),
            (["--compatibility", "any"], "--compatibility is the server's own affair"),
            (["--tools", str(tmp_path / "none")], "none: cannot be read (No such file"),
            (["--device", "cpu"], "--device is the server's own affair"),
            (["--api-key-file", str(tmp_path / "talk.jsonl")], "its first key has letters beyond ASCII"),
            (["--api-key-file", str(tmp_path / "other")], "status 401"),
        ):
            assert main([*given, "--message", "x", *flags]) == 2
            assert told in capsys.readouterr().err


def test_what_goes_together(model_folder, capsys):
    for arguments, told in (
        (["chat"], "give either a folder or --url"),
        (["chat", str(model_folder), "--url", "http://127.0.0.1:1/v1"], "give either a folder or --url"),
        (["chat", str(model_folder), "--model", "x"], "--model goes with --url"),
    ):
        assert main(arguments) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("colored", [False, True])
def test_thoughts_and_calls_have_lines_of_their_own(capsys, colored):
    printer = AnswerPrinter(colored=colored)
    for delta in (
        RemoteDelta(text="", thought="let me "), RemoteDelta(text="", thought="see"), RemoteDelta(text="I look. "), Delta(text="Now."),
        RemoteDelta(text="", call_name="f"), RemoteDelta(text="", call_arguments='{"x":1}'), RemoteDelta(text="", call_name="g"),
    ):  # fmt: skip
        printer.show(delta)
    printer.end()
    said = capsys.readouterr().out
    assert said.replace("\033[2m", "").replace("\033[0m", "") == '(thinking) let me see\nI look. Now.\n(calls) f {"x":1}\n(calls) g \n'
    assert said.count("\033[0m") == said.count("\033[2m") == colored
