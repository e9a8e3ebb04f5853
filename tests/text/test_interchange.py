import json

import gguf
import pytest
import tiktoken

from beichen.errors import TokenizerError
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.interchange import gguf_fields, tiktoken_arguments
from beichen.text.pre_tokenization import PATTERNS
from tests.text.trained import ODD_TEXTS, SPECIALS, sentences


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tiktoken_gives_the_same_ids(pattern):
    tokenizer = train_tokenizer(sentences(300), vocab_size=600, pattern=pattern)
    theirs = tiktoken.Encoding("ours", **tiktoken_arguments(tokenizer))
    assert theirs.n_vocab == tokenizer.vocab_size
    for text in (*ODD_TEXTS, *sentences(40, seed=4)):
        assert theirs.encode_ordinary(text) == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs.encode("<_end>", allowed_special="all") == [tokenizer.end_id]


@pytest.mark.parametrize(("pattern", "name"), [("gpt2", "gpt-2"), ("qwen2", "qwen2"), ("llama3", "llama-bpe")])
def test_gguf_fields_say_what_the_file_says(pattern, name):
    tokenizer = train_tokenizer(sentences(300), vocab_size=400, pattern=pattern)
    fields = gguf_fields(tokenizer)
    assert fields["tokenizer.ggml.pre"] == name
    assert fields["tokenizer.ggml.tokens"][:13] == list(SPECIALS)
    assert fields["tokenizer.ggml.token_type"] == [3] * 13 + [1] * 387
    assert [tokenizer.engine.token_of(piece) for piece in fields["tokenizer.ggml.tokens"]] == list(range(400))
    assert len(fields["tokenizer.ggml.merges"]) == 400 - 256 - 13
    assert all(len(merge.split(" ")) == 2 for merge in fields["tokenizer.ggml.merges"])
    assert (fields["tokenizer.ggml.bos_token_id"], fields["tokenizer.ggml.eos_token_id"]) == (1, 2)
    json.dumps(fields)


def test_llama_cpps_own_library_writes_and_reads_the_fields(tmp_path):
    tokenizer = train_tokenizer([*sentences(300), "naïve 🙂"], vocab_size=400, pattern="llama3")
    fields = gguf_fields(tokenizer)
    names = gguf.Keys.Tokenizer
    known = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}
    assert fields.keys() <= known and fields["tokenizer.ggml.token_type"][0] == gguf.TokenType.CONTROL
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    writer.add_tokenizer_model(fields[names.MODEL])
    writer.add_tokenizer_pre(fields[names.PRE])
    writer.add_token_list(fields[names.LIST])
    writer.add_token_types(fields[names.TOKEN_TYPE])
    writer.add_token_merges(fields[names.MERGES])
    writer.add_eos_token_id(fields[names.EOS_ID])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read = gguf.GGUFReader(tmp_path / "vocabulary.gguf").fields
    for key in (names.MODEL, names.PRE, names.LIST, names.TOKEN_TYPE, names.MERGES, names.EOS_ID):
        assert read[key].contents() == fields[key]


def test_a_pattern_that_llama_cpp_does_not_know_is_refused():
    with pytest.raises(TokenizerError, match="no pre-tokenizer that cuts as the pattern 'han'"):
        gguf_fields(train_tokenizer(sentences(30), vocab_size=300))
