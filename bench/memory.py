"""Peak memory and time of loading and of saving a checkpoint, each in a process of its own, beside the bytes of the model.

The peak is the resident set that the system reports (VmHWM), mapped pages of files included, above the process after importing
torch and what loading needs. The bound that we hold ourselves to: 1.15 x the model plus one shard.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.records import BenchResult, Run

GIGABYTE = 10**9
SHARD_BYTES = 250 * 10**6
FORMS = ("safetensors", "bin")
VOCABULARY = 16_000


def measure(run: Run, *, model_bytes: int = GIGABYTE, rounds: int = 3) -> list[BenchResult]:
    """Records of loading and saving in both forms; the number format kept, and changed to float32 while loading."""
    found: list[BenchResult] = []
    with tempfile.TemporaryDirectory(prefix="beichen-memory-") as place:
        folder = Path(place) / "safetensors"
        size = in_own_process("make", str(folder), str(model_bytes))["bytes"]
        in_own_process("as_bins", str(folder), str(Path(place) / "bin"))
        for form in FORMS:
            for dtype in ("as stored", "float32") if form == "safetensors" else ("as stored",):
                found += _records(run, Path(place) / form, form, dtype, size, rounds)
    return found


def _records(run: Run, folder: Path, form: str, dtype: str, size: int, rounds: int) -> list[BenchResult]:
    taken = [in_own_process("load_and_save", str(folder), str(folder.with_name("copy")), dtype) for _ in range(rounds)]
    model = size * (2 if dtype == "float32" else 1)
    shard = max(path.stat().st_size for path in folder.iterdir())
    bound = 1.15 * model + shard
    return [
        run.record(
            "memory", f"{verb} {form}, {dtype}", [one[verb] / 1e6 for one in taken], "MB", ceiling=bound / 1e6,
            settings=f"model of {model / 1e6:.0f} MB, largest shard {shard / 1e6:.0f} MB; ceiling: 1.15 x model + shard",
            details={"x model": max(one[verb] for one in taken) / model, "seconds": min(one[f"{verb}_seconds"] for one in taken)},
        )
        for verb in ("load", "save")
    ]  # fmt: skip


def in_own_process(*words: str) -> dict[str, Any]:
    """The figures of one step of this file."""
    answer = subprocess.run([sys.executable, "-m", "bench.memory", *words], capture_output=True, text=True, encoding="utf-8", check=False)
    if answer.returncode:
        raise RuntimeError(f"bench.memory {' '.join(words)}: {answer.stderr.strip()[-2000:]}")
    figures: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def resident(key: str = "VmRSS") -> int:
    """Bytes in memory now (VmRSS), or the most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def forget_peak() -> None:
    """From here on VmHWM counts anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def make(folder: str, model_bytes: str) -> dict[str, int]:
    """A random Llama of about that size in shards, bfloat16."""
    import torch

    from beichen.checkpoints.saving import save_checkpoint
    from beichen.models.llama import FAMILY
    from beichen.nn.decoder import Decoder

    size = int(model_bytes)
    width = 2048 if size >= GIGABYTE // 2 else 512
    layers = round((size - 2 * VOCABULARY * width * 2) / (12.25 * width * width * 2))
    config = FAMILY.new_config(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=width * 11 // 4, max_position_embeddings=2048,
    )  # fmt: skip
    with torch.device("meta"):
        decoder = Decoder(config).to(torch.bfloat16)
    weights = {name: torch.empty(one.shape, dtype=torch.bfloat16).normal_() for name, one in decoder.state_dict().items()}
    decoder.load_state_dict(weights, assign=True)
    save_checkpoint(folder, decoder, family="llama", shard_bytes=min(SHARD_BYTES, size // 4))
    return {"bytes": sum(one.nbytes for one in decoder.parameters())}


def as_bins(folder: str, target: str) -> dict[str, int]:
    """The same checkpoint in ``.bin`` shards."""
    import shutil

    import torch
    from safetensors.torch import load_file

    source, copy = Path(folder), Path(target)
    copy.mkdir()
    shutil.copy(source / "config.json", copy)
    for shard in sorted(source.glob("model-*.safetensors")):
        torch.save(load_file(shard), copy / f"pytorch_{shard.stem}.bin")
    index = json.loads((source / "model.safetensors.index.json").read_text(encoding="utf-8"))
    index["weight_map"] = {name: f"pytorch_{Path(file).stem}.bin" for name, file in index["weight_map"].items()}
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return {}


def load_and_save(folder: str, target: str, dtype: str) -> dict[str, float]:
    """Peaks of the two above the process after its imports; saving counts the model, which is in memory by then."""
    import torch

    from beichen.checkpoints.loading import load_checkpoint
    from beichen.checkpoints.saving import save_checkpoint
    from beichen.models.registry import load_family

    load_family("llama")
    torch.empty(1).normal_()
    before = resident()
    forget_peak()
    begun = time.perf_counter()
    loaded = load_checkpoint(folder, dtype=None if dtype == "as stored" else getattr(torch, dtype))
    figures: dict[str, float] = {"load_seconds": time.perf_counter() - begun, "load": resident("VmHWM") - before}
    forget_peak()
    begun = time.perf_counter()
    save_checkpoint(
        target, loaded.decoder, family=loaded.family, published=loaded.published, source=folder, shard_bytes=SHARD_BYTES, replace=True
    )  # fmt: skip
    return figures | {"save_seconds": time.perf_counter() - begun, "save": resident("VmHWM") - before}


if __name__ == "__main__":
    steps: dict[str, Callable[..., Mapping[str, float]]] = {"make": make, "as_bins": as_bins, "load_and_save": load_and_save}
    print(json.dumps(steps[sys.argv[1]](*sys.argv[2:])))
