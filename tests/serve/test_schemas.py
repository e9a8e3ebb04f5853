"""Forms of requests and answers: OpenAI's own types read ours, faults name their path, the TeleChat service's ranges and codes."""

import json
from datetime import datetime

import pytest
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from beichen.errors import RequestError, TemplateError
from beichen.serve.schemas.base import error_body, read_body
from beichen.serve.schemas.chat import (
    AnswerDelta,
    AnswerMessage,
    Call,
    CallDelta,
    CalledFunction,
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatRequest,
    ChoiceLogprobs,
    ChunkChoice,
    FunctionDelta,
    TemplateOptions,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from beichen.serve.schemas.completions import (
    CompletionAnswer,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
    DetokenizeRequest,
    ModelCard,
    TokenizeRequest,
)
from beichen.serve.schemas.embeddings import Embedding, EmbeddingAnswer, EmbeddingRequest, EmbeddingUsage
from beichen.serve.schemas.originals import NdlRequest, ndl_answer, read_telechat, telechat_failure
from beichen.serve.schemas.sampling import NamedSchema, StreamOptions
from beichen.text.chat_requests import ROLES

CHAT = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
USAGE = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
TOP = TopLogprob(token="a", logprob=-1, bytes=[97])
LOGPROBS = ChoiceLogprobs(content=[TokenLogprob(token="好", logprob=-0.5, bytes=[229, 165, 189], top_logprobs=[TOP])])


def read(form, **fields):
    return read_body(form, json.dumps(fields).encode())


def test_what_clients_send_is_read():
    request = read(
        ChatRequest, **CHAT, stream=True, stream_options={"include_usage": True}, n=2, temperature=1, top_p=0.5, logit_bias={"7": -100},
        seed=1, stop=["a", "b"], max_completion_tokens=5, max_tokens=5, logprobs=True, top_logprobs=3, user="u",
        metadata={"a": "b"}, store=False,
        tools=[], tool_choice="auto", parallel_tool_calls=True,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        reasoning_effort="none", service_tier="auto", modalities=["text"],
        top_k=-1, min_p=0.1, repetition_penalty=1.05, presence_penalty=-2,
    )  # fmt: skip
    assert (request.logit_bias, request.stops, request.longest, request.thinking(able=True), request.temperature) == (
        {7: -100},
        ("a", "b"),
        5,
        False,
        1.0,
    )
    assert request.response_format is not None and request.response_format.type == "json_schema"
    bare = read(ChatRequest, **CHAT)
    assert (bare.stops, bare.longest, bare.thinking(able=True), bare.stream, bare.temperature) == ((), None, None, False, None)
    assert read(ChatRequest, **CHAT, chat_template_kwargs={"enable_thinking": True}, reasoning_effort="none").thinking(able=True)
    assert read(ChatRequest, **CHAT, reasoning_effort="none").thinking(able=False) is None
    for prompt in ("text", [1, 2], ["a", "b"], [[1], [2, 3]]):
        assert read(CompletionRequest, model="m", prompt=prompt).prompt == prompt
        assert read(EmbeddingRequest, model="m", input=prompt).input == prompt
    assert read(TokenizeRequest, prompt="a").add_generation_prompt and read(DetokenizeRequest, tokens=[1]).tokens == [1]


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        (ChatRequest, CHAT), (CompletionRequest, {"model": "m", "prompt": "a"}), (TokenizeRequest, {"prompt": "a"}),
        (EmbeddingRequest, {"model": "m", "input": "a"}), (StreamOptions, {}), (NamedSchema, {"name": "n"}), (TemplateOptions, {}),
    ],
)  # fmt: skip
def test_null_is_as_if_the_field_were_not_there(form, fields):
    described = form.model_json_schema()["properties"]
    for name, field in form.model_fields.items():
        if name not in fields:
            said = field.alias or name
            assert read(form, **{**fields, said: None}) == read(form, **fields)
            assert {"type": "null"} in described[said].get("anyOf", ()) or None in described[said]["enum"], name


@pytest.mark.parametrize(
    ("form", "fields", "param", "words"),
    [
        (ChatRequest, {"messages": []}, "model", "missing"),
        (ChatRequest, {"model": "m"}, "messages", "missing"),
        (ChatRequest, {**CHAT, "temprature": 1}, "temprature", "did you mean 'temperature'"),
        (ChatRequest, {**CHAT, "temperature": "1"}, "temperature", "valid number"),
        (ChatRequest, {**CHAT, "temperature": 2.5}, "temperature", "less than or equal to 2"),
        (ChatRequest, {**CHAT, "n": True}, "n", "valid integer"),
        (ChatRequest, {**CHAT, "n": 0}, "n", "greater than or equal to 1"),
        (ChatRequest, {**CHAT, "max_completion_tokens": 0}, "max_completion_tokens", "greater"),
        (ChatRequest, {**CHAT, "max_completion_tokens": 1, "max_tokens": 2}, "max_tokens", "differ"),
        (ChatRequest, {**CHAT, "logit_bias": {"a": 1}}, "logit_bias.a", "pattern"),
        (ChatRequest, {**CHAT, "logit_bias": {"1": 101}}, "logit_bias.1", "less"),
        (ChatRequest, {**CHAT, "stop": ["a", ""]}, "stop[1]", "at least 1"),
        (ChatRequest, {**CHAT, "stop": ["a"] * 17}, "stop", "at most 16"),
        (ChatRequest, {**CHAT, "top_logprobs": 1}, "top_logprobs", "needs logprobs"),
        (ChatRequest, {**CHAT, "stream_options": {}}, "stream_options", "needs stream"),
        (ChatRequest, {**CHAT, "modalities": ["text", "audio"]}, "modalities", "text alone"),
        (ChatRequest, {**CHAT, "response_format": {"type": "xml"}}, "response_format", "json_schema"),
        (ChatRequest, {**CHAT, "response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name", "miss"),
        (ChatRequest, {**CHAT, "structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs", "exactly one"),
        (CompletionRequest, {"model": "m", "prompt": [1, -2]}, "prompt[1]", "greater"),
        (CompletionRequest, {"model": "m", "prompt": "a", "suffix": "b"}, "suffix", "fill in the middle"),
        (CompletionRequest, {"model": "m", "prompt": "a", "n": 3, "best_of": 2}, "best_of", "less than n"),
        (TokenizeRequest, {"prompt": "a", "messages": []}, "prompt", "one of the two"),
        (NdlRequest, {"prompt": ["q", "p"]}, "prompt", "valid string, got a list"),
        (ChatRequest, {**CHAT, "chat_template_kwargs": 3}, "chat_template_kwargs", "an object, got 3"),
        (ChatRequest, {**CHAT, "stop": {}}, "stop", "got an object"),
    ],
)  # fmt: skip
def test_faults_name_their_field(form, fields, param, words):
    with pytest.raises(RequestError) as caught:
        read(form, **fields)
    error = error_body(caught.value).error
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert words in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_fault_of_its_own(body):
    with pytest.raises(RequestError) as caught:
        read_body(ChatRequest, body)
    assert caught.value.code == "invalid_json"


def test_errors_of_the_library_have_the_same_form():
    body = error_body(TemplateError("no", remedy="do")).model_dump()
    assert body == {"error": {"message": "no (do)", "type": "invalid_request_error", "param": None, "code": None}}
    assert error_body(RequestError("bad", param="messages[0]", code="c")).error.model_dump() == {
        "message": "messages[0]: bad", "type": "invalid_request_error", "param": "messages[0]", "code": "c"
    }  # fmt: skip


def test_the_official_types_read_our_answers():
    called = AnswerMessage(content=None, tool_calls=[Call(id="c", function=CalledFunction(name="f", arguments="{}"))])
    choices = [
        ChatChoice(index=0, message=AnswerMessage(content="好", reasoning_content="hm"), logprobs=LOGPROBS, finish_reason="stop"),
        ChatChoice(index=1, message=called, finish_reason="tool_calls"),
    ]
    answer = ChatAnswer(id="i", created=1, model="m", choices=choices, usage=USAGE)
    theirs = ChatCompletion.model_validate_json(answer.model_dump_json(), strict=True)
    assert theirs.choices[0].message.content == "好" and theirs.choices[1].message.tool_calls is not None
    deltas = [
        AnswerDelta(role="assistant", content=""),
        AnswerDelta(tool_calls=[CallDelta(index=0, id="c", type="function", function=FunctionDelta(name="f", arguments=""))]),
        AnswerDelta(tool_calls=[CallDelta(index=0, function=FunctionDelta(arguments='{"城": 1}'))]),
    ]
    for delta in deltas:
        chunk = ChatChunk(id="i", created=1, model="m", choices=[ChunkChoice(index=0, delta=delta)])
        assert json.loads(chunk.as_json())["choices"][0] == {
            "index": 0,
            "delta": delta.model_dump(exclude_none=True),
            "finish_reason": None,
        }
        assert ChatCompletionChunk.model_validate_json(chunk.as_json(), strict=True).choices[0].finish_reason is None
    last = ChatChunk(id="i", created=1, model="m", choices=[], usage=USAGE)
    assert ChatCompletionChunk.model_validate_json(last.as_json()).usage is not None
    logprobs = CompletionLogprobs(tokens=["a"], token_logprobs=[None], top_logprobs=[None], text_offset=[0])
    text = CompletionAnswer(id="i", created=1, model="m", choices=[CompletionChoice(index=0, text="a", finish_reason="stop")], usage=USAGE)
    assert Completion.model_validate_json(text.model_dump_json()).choices[0].text == "a"
    assert CompletionChoice(index=0, text="a", logprobs=logprobs, finish_reason=None).logprobs == logprobs
    vectors = EmbeddingAnswer(
        model="m", data=[Embedding(index=0, embedding=[0.6, 0.8])], usage=EmbeddingUsage(prompt_tokens=1, total_tokens=1)
    )
    assert CreateEmbeddingResponse.model_validate_json(vectors.model_dump_json()).data[0].embedding == [0.6, 0.8]
    assert Model.model_validate_json(ModelCard(id="m", created=1).model_dump_json()).id == "m"


ASK = {"dialog": [{"role": "user", "content": "你好"}]}
TURNS = [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}, {"role": "user", "content": "c"}]


def test_telechat_requests_and_their_defaults():
    request = read_telechat({"dialog": TURNS})
    assert [message.role for message in request.messages] == ["user", "assistant", "user"]
    assert (request.do_sample, request.max_length, request.top_k) == (True, 4096, 20)
    assert (request.top_p, request.temperature, request.repetition_penalty) == (0.2, 0.1, 1.03)


ACCEPTED = {
    "max_length": (1, 4096, True, None), "top_k": (1, 99, True, None), "top_p": (0.999, None), "temperature": (0.01, None),
    "repetition_penalty": (1.0001, 99.9, None), "do_sample": (True, False, None),
}  # fmt: skip
REFUSED = {
    "max_length": (0, 4097, 512.0, "512"), "top_k": (0, 100, 5.0, "5"), "top_p": (0.0, 1.0, 1, "0.5"), "temperature": (0.0, 1.0, 1, "0.5"),
    "repetition_penalty": (1.0, 1, 2, 100.0, "1.5"), "do_sample": (0, 1, "true"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ACCEPTED.items() for value in values])
def test_ranges_that_were_measured_at_the_original_are_accepted(name, value):
    assert getattr(read_telechat({**ASK, name: value}), name) == value


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "10301"), ({"dialog": None}, "10301"), ([], "10301"), ({"dialog": []}, "10903"), ({"dialog": "a"}, "10904"),
        ({"dialog": TURNS[1:]}, "10904"), ({"dialog": TURNS[:2]}, "10904"), ({"dialog": [TURNS[0], TURNS[0]]}, "10904"),
        ({"dialog": [{"role": "user"}]}, "10904"), ({"dialog": TURNS[1:], "top_k": 0}, "10904"), ({"dialog": [], "top_k": 0}, "10305"),
        *(({**ASK, name: value}, "10305") for name, values in REFUSED.items() for value in values),
    ],
)  # fmt: skip
def test_telechat_codes_in_the_order_of_its_checks(body, code):
    with pytest.raises(RequestError) as caught:
        read_telechat(body)
    assert caught.value.code == code
    failure = telechat_failure(code).model_dump()
    assert failure == {"seqid": "", "code": code, "message": caught.value.args[0].partition(": ")[2], "flag": "0", "data": "执行失败"}


def test_ndl():
    assert ndl_answer("好", datetime(2024, 5, 6, 7, 8, 9)).model_dump() == {"response": "好", "status": 200, "time": "2024-05-06 07:08:09"}


def test_the_openapi_page_knows_messages_and_ranges():
    schema = ChatRequest.model_json_schema()
    roles = {one["properties"]["role"]["const"] for one in schema["properties"]["messages"]["items"]["anyOf"]}
    assert roles == set(ROLES) and set(schema["required"]) == {"model", "messages"}
    assert {"minimum": 0, "maximum": 2, "type": "number"} in schema["properties"]["temperature"]["anyOf"]
    for form in (CompletionRequest, EmbeddingRequest, TokenizeRequest, DetokenizeRequest, NdlRequest, ChatAnswer, ChatChunk):
        assert form.model_json_schema()["properties"]
