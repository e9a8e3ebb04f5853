import unicodedata
from pathlib import Path

import pytest
import tokenizers

from beichen.errors import TokenizerError
from beichen.text.byte_pair_training import TextSource, TrainingSettings, train
from beichen.text.normalization import normalizer, ordered_steps
from beichen.text.tokenizer import Tokenizer, read_tokenizer

TEXTS = ["繁體中文與簡體中文", "ＡＢＣ１２３ ﬁne", "漢語和英語", "头发和皇后"] * 20


def trained(steps: tuple[str, ...], folder: Path) -> Tokenizer:
    train(TrainingSettings(vocab_size=330, normalization=steps), [TextSource("a", lambda consumed: TEXTS)], folder).tokenizer.save(
        folder / "out"
    )
    return read_tokenizer(folder / "out")


def test_compatibility_forms_are_stated_in_the_file(tmp_path):
    tokenizer = trained(("nfkc",), tmp_path)
    for text in TEXTS:
        assert tokenizer.encode(text) == tokenizer.encode(unicodedata.normalize("NFKC", text))
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFKC", text)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert library.encode("ＡＢＣ", add_special_tokens=False).ids == tokenizer.encode("ABC")


def test_traditional_characters_become_simplified_ones(tmp_path):
    tokenizer = trained(("nfkc", "t2s"), tmp_path)
    assert tokenizer.decode(tokenizer.encode("繁體中文ＡＢ")) == "繁体中文AB"
    assert tokenizer.encode_batch(["漢語"]) == [tokenizer.encode("汉语")]
    pieces = {tokenizer.token_bytes(token).decode("utf-8", "ignore") for token in range(tokenizer.vocab_size)}
    assert not any("體" in piece for piece in pieces)


def test_steps_run_in_one_order_however_named():
    assert ordered_steps(["nfkc", "t2s", "nfkc"]) == ("t2s", "nfkc")
    assert normalizer([]) is None


def test_an_unknown_step_is_named():
    with pytest.raises(TokenizerError, match="did you mean 'nfkc'"):
        ordered_steps(["nfck"])
