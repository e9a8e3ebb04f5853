"""The laws of training: the files are those of ``tokenizers``, whatever the way, the workers, the memory, the order or the kills."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from beichen.text import compiled
from beichen.text.byte_pair_training import TextSource, TrainingSettings, train, train_tokenizer
from beichen.text.pre_tokenization import PATTERNS, split_pattern
from beichen.text.training import stages
from beichen.text.training.settings import TELECHAT2_SPECIALS
from tests.shared_data import REPOSITORY

ALPHABETS = ("ab", "abc  '", "一二上海苹果的 ab1９,。!\n", "the quick 上海 12\n")
needs_compiler = pytest.mark.skipif(not compiled.status().available, reason=compiled.status().reason)


def random_texts(draw: random.Random) -> list[str]:
    alphabet = draw.choice(ALPHABETS)
    longest = draw.choice((5, 60, 1500))
    return ["ab", *("".join(draw.choice(alphabet) for _ in range(draw.randint(0, longest))) for _ in range(draw.randint(1, 25)))]


def reference(texts: list[str], vocab_size: int, pattern: str) -> bytes:
    library = tokenizers.Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(tokenizers.Regex(split_pattern(pattern)), behavior="isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    library.decoder = decoders.ByteLevel()
    specials = [tokenizers.AddedToken(name, special=True, normalized=False) for name in TELECHAT2_SPECIALS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(texts, trainer=trainer)
    return library.to_str(pretty=True).encode()


def trained(texts: list[str], folder: Path, **settings: Any) -> bytes:
    given = TrainingSettings(**{"vocab_size": 500, **settings})
    tokenizer = train(given, [TextSource("texts", lambda consumed: texts)], folder).tokenizer
    tokenizer.save(folder / "out")
    return (folder / "out" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("fast", [True, False], ids=["compiled", "slow"])
def test_the_file_is_that_of_tokenizers(pattern, fast, tmp_path):
    if fast and not compiled.status().available:
        pytest.skip(compiled.status().reason)
    draw = random.Random(pattern)
    for number in range(12 if fast else 6):
        texts, size = random_texts(draw), 269 + draw.randint(0, 400)
        if fast:
            found = trained(texts, tmp_path / str(number), vocab_size=size, pattern=pattern)
        else:
            with compiled.switched_off():
                found = trained(texts, tmp_path / str(number), vocab_size=size, pattern=pattern)
        assert found == reference(texts, size, pattern)


@needs_compiler
def test_many_symbols_give_the_same_merges(tmp_path):
    draw = random.Random(1)
    texts = ["".join(chr(draw.randrange(0x4E00, 0x4F00)) for _ in range(40)) for _ in range(400)]
    assert trained(texts, tmp_path, vocab_size=60_000, pattern="gpt2") == reference(texts, 60_000, "gpt2")


def many_texts() -> list[str]:
    draw = random.Random(3)
    words = ["".join(draw.choice("abcdefgh上海天气") for _ in range(draw.randint(1, 9))) for _ in range(3000)]
    return [" ".join(draw.choice(words) for _ in range(draw.randint(1, 60))) for _ in range(1500)]


@needs_compiler
def test_workers_order_and_spilling_do_not_change_the_file(tmp_path, monkeypatch):
    texts = many_texts()
    whole = trained(texts, tmp_path / "one", workers=1)
    assert trained(texts[::-1], tmp_path / "reversed", workers=3) == whole
    monkeypatch.setattr(stages, "_TABLES", (1, 200))  # tables of 160 kB, so that there are many runs
    monkeypatch.setattr(stages, "_MOST_RUNS", 3)
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", 0.0)
    assert trained(texts, tmp_path / "spilled", workers=2, memory=64 << 20) == whole


PROGRAM = """
import os, signal, sys
from pathlib import Path
from beichen.text import byte_pair_training
from beichen.text.training import stages, workspace
from tests.text.training.test_equality import many_texts, trained

left = int(sys.argv[2])
def counted(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call

stages._TABLES, stages._MOST_RUNS, stages._CHECKPOINT_SECONDS, stages._LEARN_SECONDS = (1, 200), 4, 0.0, 0.0
stages._BATCH_BYTES = 60_000
workspace.Workspace._append = counted(workspace.Workspace._append)
workspace.Workspace._remove_leftovers = counted(workspace.Workspace._remove_leftovers)
workspace.Workspace.learnt = counted(workspace.Workspace.learnt)
os.replace = counted(os.replace)
trained(many_texts(), Path(sys.argv[1]), workers=2, memory=64 << 20, vocab_size=330)
"""


@needs_compiler
def test_a_killed_training_goes_on_to_the_same_file(tmp_path):
    """Every start is killed at its k-th deed, k growing, so that kills fall into every stage."""
    expected = trained(many_texts(), tmp_path / "whole", vocab_size=330)
    kills = 0
    for deeds in range(1, 40, 2):
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "killed"), str(deeds)], cwd=REPOSITORY, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9
        kills += 1
    assert kills >= 5
    assert (tmp_path / "killed" / "out" / "tokenizer.json").read_bytes() == expected


def test_another_corpus_in_the_same_folder_begins_anew(tmp_path):
    texts = many_texts()[:50]
    first = train(TrainingSettings(vocab_size=300), [TextSource("a", lambda consumed: texts, 1)], tmp_path)
    again = train(TrainingSettings(vocab_size=300), [TextSource("a", lambda consumed: [], 1)], tmp_path)  # not read again
    assert again.tokenizer.fingerprint == first.tokenizer.fingerprint
    larger = train(TrainingSettings(vocab_size=310), [TextSource("a", lambda consumed: [], 1)], tmp_path)  # goes on from 300
    assert larger.tokenizer.fingerprint == train_tokenizer(texts, vocab_size=310).fingerprint
    other = train(TrainingSettings(vocab_size=300), [TextSource("a", lambda consumed: texts[:9], 2)], tmp_path)
    assert other.record.texts == 9


@needs_compiler
def test_sampling_is_recorded_announced_and_the_same_in_both_ways(tmp_path):
    texts = many_texts()
    fast = train(TrainingSettings(vocab_size=400, sample_below=5), [TextSource("a", lambda consumed: texts)], tmp_path / "fast")
    with compiled.switched_off():
        slow = train(TrainingSettings(vocab_size=400, sample_below=5), [TextSource("a", lambda consumed: texts)], tmp_path / "slow")
    assert fast.record == slow.record and fast.record.sampled_below == 5
    assert fast.tokenizer.fingerprint == slow.tokenizer.fingerprint


@pytest.mark.parametrize("fast", [True, False], ids=["compiled", "slow"])
def test_no_piece_is_spelled_like_a_control_token(fast):
    names = (*TELECHAT2_SPECIALS, "stop")
    if fast:
        tokenizer = train_tokenizer(["stop stopping" * 50], vocab_size=330, special_tokens=names)
    else:
        with compiled.switched_off():
            tokenizer = train_tokenizer(["stop stopping" * 50], vocab_size=330, special_tokens=names)
    pieces = [tokenizer.token_bytes(token) for token in range(len(names), tokenizer.vocab_size)]
    assert b"stop" not in pieces
    ordinary = train_tokenizer(["stop stopping" * 50], vocab_size=330)
    assert b"stop" in [ordinary.token_bytes(token) for token in range(ordinary.vocab_size)]
    assert tokenizer.special_ids["stop"] not in tokenizer.encode("stop")
