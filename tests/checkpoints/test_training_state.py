"""Training state returns bit for bit from the newest undamaged step; a failed save loses nothing."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from beichen.checkpoints import training_state
from beichen.checkpoints.training_state import latest_complete, load_training_state, save_training_state, saved_steps
from beichen.errors import CheckpointError, StorageError
from beichen.util.progress import SilentReporter


class Warnings(SilentReporter):
    def __init__(self):
        self.texts = []

    def warn(self, text):
        self.texts.append(text)


def state(step):
    generator = torch.Generator().manual_seed(step)
    moments = torch.randn(7, 5, generator=generator)
    return {"weights": moments.bfloat16(), "moments": moments, "turned": moments.T, "view": moments[2:], "count": torch.tensor(step)}


def load(run, **keys):
    loaded = load_training_state(run, **keys)
    assert loaded is not None
    return loaded


VALUES = {"cursor": [3, 17], "seed": 2**63, "loss": 1.25, "name": "中文", "nothing": None}


def test_a_state_returns_bit_for_bit(tmp_path):
    save_training_state(tmp_path / "run", 123, state(123), VALUES)
    step, tensors, values = load(tmp_path / "run")
    assert step == 123 and values == VALUES and (tmp_path / "run" / "step-000123").is_dir()
    assert tensors.keys() == state(123).keys()
    assert all(torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype for name, tensor in state(123).items())


def test_a_run_that_saved_nothing_has_no_state(tmp_path):
    assert load_training_state(tmp_path) is None and load_training_state(tmp_path / "nowhere") is None


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 15, 1_000_000):
        save_training_state(tmp_path, step, state(step), {}, keep=2)
    assert [step for step, _ in saved_steps(tmp_path)] == [1_000_000, 15]
    assert load(tmp_path).step == 1_000_000


def test_saving_a_step_again_replaces_it(tmp_path):
    save_training_state(tmp_path, 5, state(1), {"try": 1})
    save_training_state(tmp_path, 5, state(2), {"try": 2})
    loaded = load(tmp_path)
    assert loaded.values == {"try": 2} and torch.equal(loaded.tensors["moments"], state(2)["moments"])


@pytest.mark.parametrize("fault", ["flip", "cut", "no values", "no digests"])
def test_a_damaged_state_is_passed_over_by_name(tmp_path, fault):
    for step in (5, 10):
        save_training_state(tmp_path, step, state(step), {})
    newest = tmp_path / "step-000010"
    tensors = newest / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    if fault == "flip":
        content[-3] ^= 1
        tensors.write_bytes(content)
    elif fault == "cut":
        tensors.write_bytes(content[:-10])
    else:
        (newest / ("values.json" if fault == "no values" else "digests.json")).unlink()
    reporter = Warnings()
    assert load(tmp_path, reporter=reporter).step == 5
    assert len(reporter.texts) == 1 and "step-000010" in reporter.texts[0]
    save_training_state(tmp_path, 7, state(7), {}, keep=1)  # the run goes on from 5: its own state is the one to keep
    assert latest_complete(tmp_path) == tmp_path / "step-000007"


def test_when_every_state_is_damaged_the_error_names_them(tmp_path):
    save_training_state(tmp_path, 5, state(5), {})
    (tmp_path / "step-000005" / "values.json").unlink()
    with pytest.raises(CheckpointError, match="step-000005"):
        load_training_state(tmp_path)


def test_a_full_disk_leaves_the_last_good_state(tmp_path, monkeypatch):
    save_training_state(tmp_path, 5, state(5), {}, keep=1)

    def full(path, tensors):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training_state, "write_safetensors", full)
    for step in (5, 10):
        with pytest.raises(StorageError, match="No space left"):
            save_training_state(tmp_path, step, state(99), {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]
    assert torch.equal(load(tmp_path).tensors["moments"], state(5)["moments"])
