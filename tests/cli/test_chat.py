"""``beichen chat``: one-shot, piped, interactive; commands; Ctrl-C; histories that outgrow the trained length."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

import beichen
from beichen.cli.chat import CLEAR_SCREEN, Chat
from beichen.cli.main import main
from beichen.inference.api import Delta, Request
from beichen.inference.conversation import Conversation
from beichen.inference.language_model import LanguageModel
from tests.cli.model_folder import model_folder as model_folder

FLAGS = ["--device", "cpu", "--dtype", "float32", "--max-new-tokens", "8", "--system", "s"]


@pytest.fixture
def model(model_folder) -> LanguageModel:
    return beichen.load(model_folder, device="cpu", dtype="float32")


def talk(monkeypatch: pytest.MonkeyPatch, conversation: Conversation, *lines: str | type[BaseException]) -> int:
    """An interactive session in which the user types these lines; an exception class is a key such as Ctrl-C."""
    typed = iter(lines)

    def read(_prompt: str) -> str:
        line = next(typed, EOFError)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)
    return Chat(conversation, interactive=True).run()


def test_one_message_is_answered_as_from_python(model_folder, model, capsys):
    assert main(["chat", str(model_folder), *FLAGS, "--message", "你好"]) == 0
    answer = model.chat([{"role": "system", "content": "s"}, {"role": "user", "content": "你好"}], max_new_tokens=8)
    assert capsys.readouterr().out == answer.text + "\n"
    assert main(["chat", str(model_folder), *FLAGS, "--message", "你好", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["answer"] == answer.text and facts["finish_reason"] == answer.finish_reason and facts["tokens"] == len(answer.ids)


def test_messages_come_through_a_pipe(model_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n\n/reset\nhello\nexit\nnever read\n"))
    assert main(["chat", str(model_folder), *FLAGS]) == 0
    said = capsys.readouterr().out
    assert said.count("(forgotten)") == 1
    first, second = said.split("(forgotten)\n")
    assert first == second and first


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_text_are_told_by_their_line(model_folder, monkeypatch, capsys, errors):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("你好\n再见".encode() + b"\xff\n"), encoding="utf-8", errors=errors))
    assert main(["chat", str(model_folder), *FLAGS]) == 2
    said = capsys.readouterr()
    assert "line 2 of the input is not valid UTF-8" in said.err and "surrogate" not in said.err
    assert said.out, "the line before it is answered"


def test_the_history_goes_along(model, monkeypatch, capsys):
    conversation = Conversation(model, system="s", max_new_tokens=5)
    assert talk(monkeypatch, conversation, "one", "two", "EXIT", "never") == 0
    roles = [message.role for message in conversation.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    expected = model.chat(conversation.messages[:4], max_new_tokens=5)
    assert conversation.messages[4].content == expected.text and expected.text in capsys.readouterr().out


def test_commands(model, monkeypatch, capsys, tmp_path):
    conversation = Conversation(model, max_new_tokens=4)
    target = tmp_path / "dialogue.jsonl"
    lines = (
        "/help",
        "/system",
        "/system 只说是",
        "/system",
        "好吗",
        f"/save {target}",
        f"/save {target}",
        "/save",
        "/what",
        "cls",
        "/reset",
    )
    assert talk(monkeypatch, conversation, *lines) == 0
    said = capsys.readouterr().out
    assert all(line in said for line in ("/system TEXT", "(the chat format's own)", "只说是\n", "unknown command /what", CLEAR_SCREEN))
    assert f"{target} exists" in said and "/save needs the name of a file" in said
    messages = json.loads(target.read_text())["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"] and messages[1]["content"] == "好吗"
    assert [message.content for message in conversation.messages] == ["只说是"]


def test_control_c_stops_the_answer_and_not_the_program(model, monkeypatch, capsys):
    conversation = Conversation(model, system="s", max_new_tokens=20)
    stream = model.generator.stream

    def interrupted(request: Request) -> Iterator[Delta]:
        yield next(iter(stream(request)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.generator, "stream", interrupted)
        assert talk(monkeypatch, conversation, KeyboardInterrupt, "tell me") == 0
    said = capsys.readouterr().out
    assert "(exit leaves)" in said and "(stopped)" in said
    assert conversation.messages[-1].role == "assistant" and conversation.messages[-1].content in said
    assert talk(monkeypatch, conversation, "again") == 0
    assert [message.role for message in conversation.messages] == ["system", *["user", "assistant"] * 2]


def test_a_history_beyond_the_trained_length_loses_whole_turns_with_a_notice(model, monkeypatch, capsys):
    conversation = Conversation(model, system="keep", max_new_tokens=8)
    seen: list[Request] = []
    stream = model.generator.stream

    def noted(request: Request) -> Iterator[Delta]:
        seen.append(request)
        return stream(request)

    monkeypatch.setattr(model.generator, "stream", noted)
    assert talk(monkeypatch, conversation, *[f"question {number} of a long talk" for number in range(12)]) == 0
    assert conversation.dropped > 0 and "no longer sees the first" in capsys.readouterr().out
    assert all(len(request.prompt_ids) + request.max_new_tokens <= model.max_length for request in seen)
    visible = [conversation.messages[0], *conversation.messages[1 + conversation.dropped : -1]]
    assert visible[1].role == "user"
    assert model.tokenizer.render(visible, add_generation_prompt=True).ids == list(seen[-1].prompt_ids)


def test_one_message_beyond_the_trained_length_is_an_error_that_leaves_the_talk_alive(model, monkeypatch, capsys):
    conversation = Conversation(model, max_new_tokens=8)
    assert talk(monkeypatch, conversation, "word " * 200, "short") == 0
    assert "the model was trained on 192" in capsys.readouterr().out
    assert len(conversation.messages) == 2


def test_faults_exit_with_two(model_folder, tmp_path, capsys):
    assert main(["chat", str(tmp_path)]) == 2
    assert main(["chat", str(model_folder), "--json"]) == 2
    assert main(["chat", str(model_folder), "--message", "x", "--temperature", "-1", *FLAGS]) == 2
    assert "--temperature -1.0" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["chat", "--message", "a"], ["generate", "--prompt", "a"]], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--temperature", "-1"], "--temperature -1.0: expected 0 or more"),
        (["--top-p", "3"], "--top-p 3.0: expected above 0 and at most 1"),
        (["--top-k", "0"], "--top-k 0: expected 1 or more"),
        (["--repetition-penalty", "0"], "--repetition-penalty 0.0: expected from 0.01 to 100"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0: expected 1 or more"),
        (["--stop", ""], "a stop string is empty"),
    ],
)
def test_settings_out_of_range_are_refused_as_typed_before_anything_is_read(tmp_path, capsys, command, words, said):
    assert main([command[0], str(tmp_path / "absent"), *command[1:], *words]) == 2
    assert f"error: {said}" in capsys.readouterr().err


def test_a_chat_format_that_is_not_there_is_said_before_anything_is_read(tmp_path, capsys):
    for words, said in (
        (["--message", "a", "--template", "telechat99"], "no chat template is called 'telechat99'"),
        (["--message", " "], "--message is empty"),
    ):
        assert main(["chat", str(tmp_path / "absent"), *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["chat", str(tmp_path / "absent"), "--message", "a", "--template", "jinja"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_an_answer_longer_than_the_model_asks_for_a_shorter_one(model_folder, model, capsys):
    flags = ["--device", "cpu", "--dtype", "float32", "--message", "你好"]
    assert main(["chat", str(model_folder), *flags, "--max-new-tokens", "100000"]) == 2
    said = capsys.readouterr().err
    assert "--max-new-tokens 100000: this message needs " in said
    most = int(said.split("ask for at most ")[1].split()[0])
    for length, code in ((most, 0), (most + 1, 2)):
        assert main(["chat", str(model_folder), *flags, "--max-new-tokens", str(length)]) == code
