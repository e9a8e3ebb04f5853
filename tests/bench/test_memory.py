"""Loading and saving keep to 1.15 x the model plus one shard, measured as the benchmark measures it, on a model of 80 MB."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import memory

MODEL_BYTES = 80 * 10**6


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc of Linux, which tells peaks of memory")
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_peaks_stay_under_the_model_and_one_shard(tmp_path, form):
    source = tmp_path / "safetensors"
    size = memory.make(str(source), str(MODEL_BYTES))["bytes"]
    if form == "bin":
        memory.as_bins(str(source), str(tmp_path / "bin"))
    shard = max(path.stat().st_size for path in source.iterdir())
    assert 0.9 * MODEL_BYTES < size < 1.1 * MODEL_BYTES and shard < 0.3 * size
    peaks = memory.in_own_process("load_and_save", str(tmp_path / form), str(tmp_path / "copy"), "as stored")
    for verb in ("load", "save"):
        assert size < peaks[verb] < 1.15 * size + shard, f"{verb}: {peaks[verb] / size:.2f} x the model"
