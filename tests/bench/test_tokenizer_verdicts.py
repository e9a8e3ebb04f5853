"""What the records of tokenizers are said to show."""

from bench.records import Run
from bench.tokenizer_costs import corpus_files, missing
from bench.tokenizer_verdicts import ENCODING, TRAINING, of_encoding, of_training

RUN = Run(command="c", commit="c", date="d", machine="m", torch="t")


def test_training_is_compared_and_memory_with_its_aim():
    rows = [
        RUN.record(TRAINING[80], "ours, gpt2", [8.0], "s", details={"peak MB": 300.0, "aim MB": 600.0}),
        RUN.record(TRAINING[80], "tokenizers", [64.0], "s", details={"peak MB": 5000.0}),
        RUN.record(TRAINING[80], "rustbpe", [10.0], "s", details={"peak MB": 900.0}),
    ]
    assert of_training(rows) == [
        ("time, ours / tokenizers", 0.125, " (aim at most 0.25)"),
        ("time, ours / rustbpe", 0.8, " (aim at most 1)"),
        ("peak memory, ours, gpt2 / budget and margin", 0.5, " (aim at most 1)"),
    ]


def test_encoding_is_compared_per_number_of_cores():
    rows = [RUN.record(ENCODING, f"1 cores, {name}", [rate], "MB/s") for name, rate in {"ours": 20.0, "tiktoken": 16.0}.items()]
    assert of_encoding(rows) == [("1 cores, ours / tiktoken", 1.25, " (aim 1 x)")]


def test_each_text_of_a_corpus_is_read_once(tmp_path):
    for name in ("a.jsonl", "a.jsonl.zst", "b.jsonl"):
        (tmp_path / name).touch()
    assert [path.name for path in corpus_files(tmp_path)] == ["a.jsonl.zst", "b.jsonl"]


def test_what_is_not_installed_is_named(capsys):
    assert missing(["ours", "tokenizers", "no_such_tokenizer"]) == ["no_such_tokenizer"]
    assert "pip install no_such_tokenizer" in capsys.readouterr().err
