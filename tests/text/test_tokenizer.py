import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import TemplateError, TokenizerError
from beichen.text.tokenizer import read_tokenizer
from tests.text.trained import ODD_TEXTS, SPECIALS, sentences, small_tokenizer


def pieces_of_specials() -> st.SearchStrategy[str]:
    parts = {name[start:end] for name in SPECIALS for start in range(len(name)) for end in range(start + 1, len(name) + 1)}
    return st.lists(st.sampled_from([*SPECIALS, *sorted(parts), " ", "\n", "好"])).map("".join)


@given(text=pieces_of_specials())
def test_typed_text_never_becomes_a_control_token(text):
    tokenizer = small_tokenizer()
    assert not set(tokenizer.encode(text)) & set(tokenizer.special_ids.values())
    assert not set(tokenizer.encode_batch([text])[0]) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", SPECIALS)
def test_allow_special_is_an_explicit_switch(name):
    tokenizer = small_tokenizer()
    assert tokenizer.special_ids[name] in tokenizer.encode(f"a{name}b", allow_special=True)
    assert tokenizer.decode([tokenizer.special_ids[name]]) == ""
    assert tokenizer.decode([tokenizer.special_ids[name]], skip_special=False) == name


def test_batches_are_single_encodings():
    tokenizer = small_tokenizer()
    texts = [*ODD_TEXTS, *sentences(50)]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@given(ids=st.lists(st.integers(0, 399)))
def test_decoding_is_the_bytes_of_the_ids(ids):
    tokenizer = small_tokenizer()
    assert tokenizer.decode(ids, skip_special=False) == b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace")


def test_a_saved_folder_is_the_tokenizer(tmp_path):
    first = small_tokenizer()
    first.save(tmp_path / "one")
    second = read_tokenizer(tmp_path / "one")
    second.save(tmp_path / "two")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    third = pickle.loads(pickle.dumps(second))
    for other in (second, third):
        assert other.fingerprint == first.fingerprint
        assert (other.special_ids, other.end_id, other.pad_id, other.template) == (
            first.special_ids,
            first.end_id,
            first.pad_id,
            first.template,
        )
        assert other.encode("你好<_end>") == first.encode("你好<_end>")


def test_stock_transformers_reads_a_saved_folder(tmp_path):
    import transformers  # late: seconds

    ours = small_tokenizer()
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.unk_token_id) == (1, 2, 3, 0)
    for text in (*ODD_TEXTS, *sentences(50), "<_user>你好<_bot>hi<_end>"):
        ids = ours.encode(text, allow_special=True)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == ours.decode(ids, skip_special=False)


def test_roles_of_control_tokens_come_from_the_settings(tmp_path):
    small_tokenizer().save(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<_sep>"}}))
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.end_id, tokenizer.pad_id, tokenizer.start_id, tokenizer.template) == (8, 3, 1, None)
    with pytest.raises(TemplateError, match="chatml, llama, llama2, llama3, ndl"):
        tokenizer.render([{"role": "user", "content": "hi"}])
    chosen = read_tokenizer(tmp_path, template="telechat2")
    assert (chosen.stop_ids, chosen.end_id) == ((8, 2), 8)
    chosen.save(tmp_path / "chosen")
    assert read_tokenizer(tmp_path / "chosen").template == "telechat2"
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_tokenizer(tmp_path).end_id == 2
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "</s>"}))
    with pytest.raises(TokenizerError, match="eos_token is '</s>'"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "beichen_chat_template": "telechat3"}))
    with pytest.raises(TokenizerError, match="did you mean 'telechat'"):
        read_tokenizer(tmp_path)


def test_folders_that_hold_no_tokenizer_are_named(tmp_path):
    for folder, words in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no tokenizer.json, tokenizer.model")):
        with pytest.raises(TokenizerError, match=words):
            read_tokenizer(folder)
    (tmp_path / "tokenizer.json").write_text("{")
    for folder, words in ((tmp_path, "not JSON"), (tmp_path / "tokenizer.json", "a file, expected a folder")):
        with pytest.raises(TokenizerError, match=words):
            read_tokenizer(folder)
    small_tokenizer().save(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "tokenizer_config.json").write_text(text)
        with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
            read_tokenizer(tmp_path)
    small_tokenizer().save(tmp_path)
    with pytest.raises(TemplateError, match="did you mean 'telechat'"):
        read_tokenizer(tmp_path, template="telechat3")


@pytest.mark.parametrize("token", [-1, 400])
def test_an_id_outside_the_vocabulary_is_named(token):
    with pytest.raises(TokenizerError, match=f"id {token} is outside this vocabulary"):
        small_tokenizer().decode([token])


def test_half_a_surrogate_pair_is_no_text():
    for encode in (small_tokenizer().encode, lambda text: small_tokenizer().encode_batch([text])):
        with pytest.raises(TokenizerError, match="surrogate pair at character 1"):
            encode("a\ud800")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"added_tokens_decoder": {"5": {"content": "<_user>"}}}, "'<_user>' has the id 4, the settings beside it give it 5"),
        ({"added_tokens_decoder": {"five": {"content": "<_user>"}}}, "added_tokens_decoder of tokenizer_config.json is not what it should"),
        ({"added_tokens_decoder": ["<_user>"]}, "added_tokens_decoder of tokenizer_config.json is not what it should"),
        ({"added_tokens_decoder": {"4": {}}}, "added_tokens_decoder of tokenizer_config.json is not what it should"),
        ({"eos_token": 5}, "eos_token is '5', which tokenizer.json does not have"),
    ],
)
def test_settings_of_another_tokenizer_are_named(tmp_path, settings, words):
    small_tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(TokenizerError) as caught:
        read_tokenizer(tmp_path)
    assert words in str(caught.value)
