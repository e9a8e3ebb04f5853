import random
from collections import Counter
from pathlib import Path

import pytest

from beichen.text import compiled
from beichen.text.training.counting import Counters
from beichen.text.training.runs import Row, combine_runs, hash_word, read_histogram, read_run, write_run


@pytest.fixture(params=["compiled", "slow"])
def way(request):
    if request.param == "slow":
        with compiled.switched_off():
            yield request.param
    elif not compiled.status().available:
        pytest.skip(compiled.status().reason)
    else:
        yield request.param


def random_counts(draw: random.Random) -> Counter[bytes]:
    return Counter({draw.randbytes(draw.choice((1, 2, 7, 8, 9, 300))): draw.choice((1, 2, 127, 128, 1 << 40)) for _ in range(50)})


def test_a_run_comes_back_in_the_order_of_hashes(tmp_path):
    counts = random_counts(random.Random(0))
    write_run(tmp_path / "a.run", counts)
    records = list(read_run(tmp_path / "a.run"))
    assert dict(records) == counts
    assert [word for word, _ in records] == sorted(counts, key=lambda word: (hash_word(word), word))


@pytest.mark.parametrize("number", [1, 2, 7])
def test_combined_runs_hold_every_count(tmp_path, way, number):
    draw = random.Random(number)
    total: Counter[bytes] = Counter()
    paths = []
    for run in range(number):
        counts = random_counts(draw)
        counts[b"shared"] = run + 1
        total.update(counts)
        paths.append(tmp_path / f"{run}.run")
        write_run(paths[-1], counts)
    read: list[int] = []
    combine_runs(paths, tmp_path / "all", tmp_path / "histogram", advance=read.append)
    write_run(tmp_path / "expected", total)
    assert (tmp_path / "all").read_bytes() == (tmp_path / "expected").read_bytes()
    expected: dict[int, list[int]] = {}
    for word, count in total.items():
        row = expected.setdefault(count, [0, 0])
        row[0], row[1] = row[0] + 1, row[1] + len(word)
    assert read_histogram(tmp_path / "histogram") == [Row(count, *expected[count]) for count in sorted(expected, reverse=True)]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(("workers", "budget"), [(1, 1 << 22), (1, 30_000), (3, 90_000)])
def test_counts_do_not_depend_on_workers_or_spilling(tmp_path, way, workers, budget):
    draw = random.Random(5)
    texts = ["".join(draw.choice("ab 一二，\n1") for _ in range(draw.randrange(400))) for _ in range(300)]
    with Counters(tmp_path, "qwen2", budget=budget, workers=workers, normalize=None) as counters:
        for start in range(0, len(texts), 7):
            counters.add(texts[start : start + 7])
        runs = counters.spill()
    assert len(runs) > workers or budget > 100_000
    combine_runs([tmp_path / name for name in runs], tmp_path / "all", advance=lambda read: None)
    with compiled.switched_off(), Counters(tmp_path, "qwen2", budget=1 << 30, workers=1, normalize=None) as counters:
        counters.add(texts)
        (whole,) = counters.spill()
    assert (tmp_path / "all").read_bytes() == (tmp_path / whole).read_bytes()


def test_a_damaged_run_is_named(tmp_path, way):
    write_run(tmp_path / "a.run", {b"word": 3, b"other": 4})
    data = (tmp_path / "a.run").read_bytes()
    (tmp_path / "a.run").write_bytes(data[:-2])
    if way == "compiled":
        with pytest.raises(OSError, match=r"all"):
            combine_runs([tmp_path / "a.run"], tmp_path / "all", advance=lambda read: None)
        assert not (tmp_path / "all").exists()


def test_faults_of_a_worker_reach_the_caller(tmp_path):
    def fail(text: str) -> str:
        raise ValueError("no")

    with Counters(Path(tmp_path), "han", budget=1 << 20, workers=2, normalize=fail) as counters, pytest.raises(ValueError, match="no"):
        counters.add(["a"])
        counters.spill()
