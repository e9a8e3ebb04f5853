"""The facade: logits with padding, text, ids and lists, chat with and without stream, save and load."""

from __future__ import annotations

import pytest
import torch

import beichen
from beichen.errors import BeichenError, SettingsError, TokenizerError
from beichen.inference.api import Completion, Delta, join
from beichen.inference.language_model import LanguageModel
from beichen.text.messages import Message
from tests.inference.small_models import small_decoder, small_tokenizer

MESSAGES = [{"role": "system", "content": "简短"}, {"role": "user", "content": "你好 <_end>"}]


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(small_decoder(), small_tokenizer(), family="telechat2")


def test_logits_have_one_row_per_sequence_in_float32(model):
    logits = model([1, 2, 3])
    assert logits.shape == (1, 3, 320) and logits.dtype == torch.float32
    torch.testing.assert_close(model([[1, 2, 3], [4, 5, 6]])[0], logits[0])


@pytest.mark.parametrize("lengths", [(5, 9, 1), (9, 70, 80)])  # the second goes beyond the trained length: a rope rule per row
def test_padding_on_either_side_changes_nothing(model, lengths):
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(320, (length,), generator=generator) for length in lengths]
    width = max(lengths) + 3
    for left in (0, 1, 3):
        ids, mask = torch.full((3, width), 7), torch.zeros(3, width, dtype=torch.int64)
        for row, own in enumerate(rows):
            start = width - len(own) if left == 3 else left
            ids[row, start : start + len(own)], mask[row, start : start + len(own)] = own, 1
        logits = model(ids, attention_mask=mask)
        assert logits.isfinite().all()
        for row, own in enumerate(rows):
            torch.testing.assert_close(logits[row][mask[row].bool()], model(own)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("mask", "said"),
    [([[1, 0, 1]], "row 0: has a hole"), ([[0, 0, 0]], "row 0: is empty"), ([[1, 1]], r"has the shape \[1, 2\], ids have \[1, 3\]")],
)
def test_masks_that_are_no_padding_are_refused(model, mask, said):
    with pytest.raises(SettingsError, match=said):
        model([[1, 2, 3]], attention_mask=torch.tensor(mask))


def test_ids_outside_the_vocabulary_are_refused(model):
    with pytest.raises(SettingsError, match="the model knows 0 to 319"):
        model([[1, 320]])


def test_generate_takes_text_ids_and_lists(model):
    text = "天气 hello"
    ids = model.tokenizer.encode(text)
    settings = {"max_new_tokens": 12, "temperature": 1.0, "seed": 3}
    one = model.generate(text, **settings)
    assert isinstance(one, Completion) and str(one) == one.text
    assert one == model.generate(ids, **settings) == model.generate(torch.tensor(ids), **settings)
    many = model.generate([text, text, "x"], **settings)
    assert many[0] == one and many[1].ids != one.ids and len(many) == 3
    assert join(model.stream(text, **settings)) == one


def test_chat_streams_what_it_answers(model):
    settings = {"temperature": 1.0, "seed": 5, "max_new_tokens": 30}
    answer = model.chat(MESSAGES, **settings)
    deltas = list(model.chat(MESSAGES, stream=True, **settings))
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert join(deltas) == answer and "".join(map(str, deltas)) == answer.text
    assert answer == model.chat([Message(role="system", content="简短"), Message(role="user", content="你好 <_end>")], **settings)


def test_typed_control_tokens_stay_text(model):
    assert model.tokenizer.special_ids["<_end>"] not in model.request("a <_end> b").prompt_ids
    rendered = model.chat_request(MESSAGES).prompt_ids
    assert model.tokenizer.special_ids["<_end>"] not in rendered


def test_an_answer_ends_at_the_trained_length_unless_told_otherwise(model):
    assert model.request([1] * 60).max_new_tokens == 4
    with pytest.raises(SettingsError, match="the prompt has 64 tokens, and the model was trained on 64"):
        model.request([1] * 64)
    assert len(model.generate([1] * 64, max_new_tokens=5, stop_ids=[]).ids) == 5


def test_unknown_settings_are_named_with_the_nearest(model):
    with pytest.raises(SettingsError, match=r"unknown setting 'temprature' .did you mean 'temperature'"):
        model.generate("x", temprature=1.0)


def test_saved_and_loaded_models_answer_alike(model, tmp_path):
    model.save(tmp_path / "a")
    loaded = beichen.load(tmp_path / "a", device="cpu", dtype="float32")
    torch.testing.assert_close(loaded([[1, 2, 3]]), model([[1, 2, 3]]))
    assert loaded.config == model.config and loaded.family == "telechat2"
    assert loaded.chat(MESSAGES, max_new_tokens=9) == model.chat(MESSAGES, max_new_tokens=9)
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert beichen.load_tokenizer(tmp_path / "b").fingerprint == model.tokenizer.fingerprint
    half = beichen.load(tmp_path / "a", device="cpu", dtype=torch.bfloat16)
    assert half.decoder.head_weight.dtype == torch.bfloat16 and half([[1, 2]]).dtype == torch.float32


def test_without_a_tokenizer_ids_still_work(tmp_path):
    LanguageModel(small_decoder(), None, family="telechat2").save(tmp_path / "bare")
    model = beichen.load(tmp_path / "bare", device="cpu", dtype="float32")
    assert len(model.generate([1, 2], max_new_tokens=3).ids) == 3
    with pytest.raises(TokenizerError, match=r"has no tokenizer"):
        model.generate("text")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: model.chat("hi"), "messages are a list, got str"),
        (lambda model: model.chat({"role": "user", "content": "hi"}), "messages are a list, got dict"),
        (lambda model: model.chat(["hi"]), "message 0 is a string, expected role and content"),
        (lambda model: model.chat([{"role": "user"}]), "message 0 has no content"),
        (lambda model: model.chat([]), "there are no messages"),
        (lambda model: model("hi"), "got str"),
        (lambda model: model([[1, 2], [3]]), "of one length"),
        (lambda model: model.generate(5), "a prompt is a text, ids, or a list of those; got int"),
        (lambda model: model.generate("a", temp=1), "unknown setting 'temp' (did you mean 'temperature'?)"),
    ],
)
def test_what_is_no_prompt_is_a_fault_of_the_user(call, said):
    model = LanguageModel(small_decoder(), small_tokenizer(), family="telechat2")
    with pytest.raises(BeichenError) as caught:
        call(model)
    assert said in str(caught.value)
