"""From a request's form to what the engine is asked."""

from __future__ import annotations

import httpx2
import pytest

from beichen.errors import RequestError
from beichen.inference.language_model import LanguageModel
from beichen.serve.asking import TOO_LONG, chat_turn, without_its_end
from beichen.serve.schemas.chat import ChatRequest
from beichen.serve.schemas.originals import FAILED
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.chat_template import chat_template, template_names
from beichen.text.messages import Message, ToolCall
from tests.inference.small_models import TEXTS, small_decoder, small_tokenizer
from tests.serve.live_server import live_server

SAID = "今天 是\n a"
DIALOGUE = [Message(role="user", content="你好"), Message(role="assistant", content=SAID)]


@pytest.mark.parametrize("name", template_names())
def test_an_answer_that_goes_on_is_the_rendered_one_without_its_end_in_every_format(name):
    names = dict.fromkeys([*small_tokenizer().special_ids, *chat_template(name).specials])
    tokenizer = train_tokenizer(TEXTS, vocab_size=340, special_tokens=tuple(names)).with_template(name)
    whole = tokenizer.render(DIALOGUE).ids
    ids = without_its_end(tokenizer, DIALOGUE[-1], whole, ends=tokenizer.stop_ids)
    assert whole[: len(ids)] == ids and set(tokenizer.stop_ids) & set(whole[len(ids) :])
    text, prompt = tokenizer.decode(ids, skip_special=False), tokenizer.render_text(DIALOGUE[:-1], add_generation_prompt=True)
    assert text.startswith(prompt) and text.removeprefix(prompt).removeprefix("<think>\n\n</think>\n\n").lstrip(" ") == SAID


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/chat", "/telechat/gptDialog/v4"])
def test_a_prompt_that_is_surely_too_long_is_refused_without_being_encoded(path, monkeypatch):
    model, text = LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2"), "天a" * 20_000
    messages = [{"role": "user", "content": text}]
    body = {
        "/v1/chat/completions": {"model": "small", "messages": messages}, "/v1/completions": {"model": "small", "prompt": ["a", text]},
        "/v1/embeddings": {"model": "small", "input": text}, "/chat": {"prompt": text}, "/telechat/gptDialog/v4": {"dialog": messages},
    }[path]  # fmt: skip
    longest, encode = 0, model.tokenizer.engine.encode

    def watched(text: str, **options: bool) -> list[int]:
        nonlocal longest
        longest = max(longest, len(text))
        return encode(text, **options)

    monkeypatch.setattr(model.tokenizer.engine, "encode", watched)
    with live_server(model, original_paths=True) as live:
        answer = httpx2.post(live.url + path, json=body)
    assert longest < 1000
    if path.startswith("/telechat"):
        assert answer.json()["code"] == FAILED
    else:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded") and "at least" in error["message"]


@pytest.mark.parametrize(
    "last",
    [
        DIALOGUE[0],
        Message(role="assistant", content="a", tool_calls=(ToolCall(name="f", arguments={}),)),
        Message(role="assistant", content=" "),
    ],
    ids=["question", "call", "nothing"],
)
def test_what_is_no_text_of_the_assistant_cannot_go_on(last):
    ids = small_tokenizer().render([DIALOGUE[0], last] if last.role == "assistant" else [last]).ids
    with pytest.raises(RequestError, match="only a text of the assistant goes on"):
        without_its_end(small_tokenizer(), last, ids, ends=small_tokenizer().stop_ids)


def test_a_dialogue_that_is_too_long_by_its_tools_is_told_with_them():
    """Whether its tokens are counted, or are found to be many before the end of counting."""
    model = LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = ChatRequest(model="small", messages=[{"role": "user", "content": "?"}], tools=tools)
    count = len(chat_turn(model, body, max_model_len=1024, owner="").request.prompt_ids)
    for room, said in ((count, str(count)), (10, r"at least \d+")):
        with pytest.raises(RequestError, match=rf"^messages: messages and tools together have {said} tokens") as fault:
            chat_turn(model, body, max_model_len=room, owner="")
        assert fault.value.code == TOO_LONG
    with pytest.raises(RequestError, match=r"^messages: it has"):
        chat_turn(model, body.model_copy(update={"tools": None}), max_model_len=2, owner="")
