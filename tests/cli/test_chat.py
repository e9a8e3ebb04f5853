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
    assert "temperature=-1.0" in capsys.readouterr().err
