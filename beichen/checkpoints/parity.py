"""Golden folders: tiny checkpoints with the numbers that the original code gave, compared with ours key by key.

In: a folder holding ``golden.json``. Out: a ``CaseResult``, one ``Comparison`` per key. The folder is loaded like any checkpoint,
so names, shards, number formats and tied weights are exercised too. A key that we do not compare is reported as skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from beichen.checkpoints.conversion import conversions
from beichen.checkpoints.loading import Checkpoint, load_checkpoint
from beichen.checkpoints.reading import read_json
from beichen.errors import BeichenError
from beichen.models.registry import UnsupportedFamilyError, load_family
from beichen.nn.cache import KeyValueCache
from beichen.nn.decoder import Decoder
from beichen.nn.rope import rope_rule, step_factor

GOLDEN = "golden.json"
INPUTS = ("input_ids", "attention_mask", "labels", "rope.lengths")
ROPE_TOLERANCES = {"rope.alpha": 0.0, "rope.mscale": 1e-6}  # where the golden states none
STEPPED_RULES = ("stepped_ntk", "scaled_stepped_ntk", "stepped_base")
COS_SIN_TOLERANCE = 5e-3  # float32 angles at high positions differ by their order of operations
Verdict = Literal["pass", "fail", "skipped"]


@dataclass(frozen=True)
class Comparison:
    """One key of a golden: the measured difference and what was allowed."""

    key: str
    verdict: Verdict
    difference: float | None = None
    tolerance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class CaseResult:
    """One golden folder; ``skipped`` and ``error`` say why there are no comparisons."""

    folder: str
    family: str
    comparisons: tuple[Comparison, ...] = ()
    skipped: str | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether something is wrong (a skipped case is not)."""
        return self.error is not None or any(one.verdict == "fail" for one in self.comparisons)


def golden_folders(root: Path | str) -> list[Path]:
    """Every folder under ``root`` (itself included) that holds a golden."""
    return sorted(path.parent for path in Path(root).rglob(GOLDEN))


def verify_folder(folder: Path, *, device: torch.device | str = "cpu") -> CaseResult:
    """Load one golden folder and compare everything that it holds."""
    golden = read_json(folder / GOLDEN)
    family = str(golden.get("family", "?"))
    kind = golden.get("kind")
    if kind not in ("forward", "conversion"):
        return CaseResult(folder=str(folder), family=family, error=f"{folder / GOLDEN}: unknown kind '{kind}'")
    try:
        if kind == "conversion":
            different = {f"convert {pair}": count for pair, count in conversions(folder, golden["files"])}
            return CaseResult(str(folder), family, tuple(_judged(key, float(count), 0.0) for key, count in different.items()))
        compute = getattr(torch, golden.get("compute_dtype", "float32"))
        checkpoint = load_checkpoint(folder, dtype=compute, device=device)
        case = _Case(folder, checkpoint, golden, load_file(folder / "golden.safetensors", device=str(device)))
        return CaseResult(folder=str(folder), family=checkpoint.family, comparisons=tuple(case.compare()))
    except UnsupportedFamilyError:
        return CaseResult(folder=str(folder), family=family, skipped=f"family '{family}' is not supported yet")
    except BeichenError as error:
        return CaseResult(folder=str(folder), family=family, error=str(error))


class _Case:
    """One loaded golden; each method answers one kind of key."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, golden: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.folder, self.checkpoint, self.decoder = folder, checkpoint, checkpoint.decoder
        self.expected, self.tolerances = tensors, golden.get("tolerance", {})
        self.real = tensors["attention_mask"].bool()
        self._faulty: dict[str, Tensor] = {}  # logits by compatibility

    def compare(self) -> Iterator[Comparison]:
        hidden = _forward(self.decoder, self.expected["input_ids"], self.expected["attention_mask"])
        logits = self.decoder.logits(hidden)
        computed: dict[str, Callable[[], Tensor]] = {
            "logits": lambda: logits[self.real],
            "hidden_last": lambda: hidden[self.real],
            "loss": lambda: shifted_loss(logits, self.expected["labels"]),
            "logits_float32": lambda: self._float32_logits()[self.real],
        }
        gradients = self._gradients(logits) if any(key.startswith("grad.") for key in self.expected) else {}
        for key in sorted(self.expected, key=_order):
            expected = self.expected[key]
            if key in INPUTS or key.startswith("input_ids_long"):
                continue
            if key in computed:
                yield self._close(key, computed[key](), expected[self.real] if expected.ndim == 3 else expected)
            elif key.startswith("grad."):
                yield self._gradient(key, gradients.get(key.removeprefix("grad.")), expected)
            elif key in ("greedy", "greedy_long"):
                yield from self._greedy(key, expected)
            elif key.startswith("logits_long"):
                yield self._long(key, expected)
            elif key.startswith("rope."):
                yield self._rope(key, expected)
            elif (name := self._compatibility_of(key)) is not None:
                yield self._compatible(key, name, expected)
            else:
                yield Comparison(key, "skipped", note="unknown key")

    def _close(self, key: str, ours: Tensor, expected: Tensor, *, tolerance: float | None = None) -> Comparison:
        allowed = self._tolerance(key) if tolerance is None else tolerance
        if allowed is None:
            return Comparison(key, "skipped", note="the golden states no tolerance")
        if ours.shape != expected.shape:
            return Comparison(key, "fail", None, allowed, f"shape {list(ours.shape)}, expected {list(expected.shape)}")
        difference = (ours.detach().double() - expected.double()).abs().max().item()
        return _judged(key, difference, allowed)

    def _tolerance(self, key: str) -> float | None:
        general = next((base for base in ("logits_long", "logits", "loss") if key.startswith(base)), key)
        value = self.tolerances.get(key, self.tolerances.get(general, ROPE_TOLERANCES.get(key)))
        return 0.0 if value == "exact" else value

    def _gradients(self, logits: Tensor) -> dict[str, Tensor]:
        """Gradients of the loss under published names."""
        self.decoder.zero_grad()
        shifted_loss(logits, self.expected["labels"]).backward(retain_graph=True)
        table = load_family(self.checkpoint.family).names
        ours = {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in self.decoder.named_parameters()}
        wanted = [key.removeprefix("grad.") for key in self.expected if key.startswith("grad.")]
        return {name: view.tensor() for name, view in table.views(ours, self.decoder.config, bare=table.omits_prefix(wanted)).items()}

    def _gradient(self, key: str, ours: Tensor | None, expected: Tensor) -> Comparison:
        allowed = self.tolerances.get("grad_rel", 1e-3)
        if ours is None or ours.shape != expected.shape:
            return Comparison(key, "fail", None, allowed, "no such tensor of this shape in the model")
        return _judged(key, ((ours - expected).norm() / expected.norm().clamp_min(1e-30)).item(), allowed)

    @torch.no_grad()
    def _greedy(self, key: str, expected: Tensor) -> Iterator[Comparison]:
        """Full recomputation at every step; within the trained length the cached path must agree."""
        prompt = self.expected["input_ids" if key == "greedy" else "input_ids_long"][:1]
        rule = self.tolerances.get(key, self.tolerances.get("greedy", "exact"))
        margin = self._tolerance("logits") or 0.0 if str(rule).startswith("exact up to") else 0.0
        yield _judged_tokens(key, _greedy_recomputed(self.decoder, prompt, len(expected)), expected, margin)
        if key == "greedy":
            yield _judged_tokens("greedy_cached", _greedy_cached(self.decoder, prompt, len(expected)), expected, margin)

    @torch.no_grad()
    def _long(self, key: str, expected: Tensor) -> Comparison:
        suffix = key.removeprefix("logits_long").removeprefix("_tail")
        ids = self.expected.get("input_ids_long" + suffix)
        if ids is None:
            return Comparison(key, "skipped", note=f"input_ids_long{suffix} is missing")
        return self._close(key, self.decoder.logits(self.decoder(ids)[:, -expected.shape[1] :]), expected)

    def _rope(self, key: str, expected: Tensor) -> Comparison:
        config, head_dim = self.decoder.config.rope, self.decoder.config.head_dim
        lengths = [int(length) for length in self.expected["rope.lengths"]]
        rules = [rope_rule(config, head_dim, length) for length in lengths]
        inverse = torch.stack([rule.inverse_frequencies for rule in rules]).to(expected.device)
        if key == "rope.inv_freq":
            difference = ((inverse - expected).abs() / expected.abs()).max().item()
            return _judged(key, difference, self.tolerances.get("rope.inv_freq_rel", 1e-6))
        if key == "rope.mscale":
            return self._close(key, torch.tensor([rule.attention_scale for rule in rules]), expected.cpu())
        if key == "rope.alpha" and config.rule in STEPPED_RULES:
            alphas = [step_factor(max(length, config.trained_length), config.original_length) for length in lengths]
            return self._close(key, torch.tensor(alphas), expected.cpu())
        if key == "rope.cos_sin_last":
            angles = (torch.tensor(lengths, dtype=torch.float32) - 1)[:, None] * inverse.cpu()
            scales = torch.tensor([rule.attention_scale for rule in rules])[:, None, None]
            tables = torch.stack((angles.cos(), angles.sin()), dim=1).repeat(1, 1, 2) * scales
            return self._close(key, tables, expected.cpu(), tolerance=COS_SIN_TOLERANCE)
        return Comparison(key, "skipped", note="unknown key")

    def _compatibility_of(self, key: str) -> str | None:
        faults = load_family(self.checkpoint.family).compatibility
        wanted = {base + fault.golden_suffix: name for name, fault in faults.items() for base in ("logits", "loss")}
        return wanted.get(key)

    @torch.no_grad()
    def _compatible(self, key: str, name: str, expected: Tensor) -> Comparison:
        """The same forward with a fault of the original; the golden may hold the first row alone."""
        if name not in self._faulty:
            dtype, device = self.decoder.head_weight.dtype, self.decoder.head_weight.device
            faulty = load_checkpoint(self.folder, dtype=dtype, device=device, compatibility=(name,)).decoder
            self._faulty[name] = faulty.logits(_forward(faulty, self.expected["input_ids"], self.expected["attention_mask"]))
        logits = self._faulty[name]
        if expected.ndim == 0:
            return self._close(key, shifted_loss(logits, self.expected["labels"]), expected)
        real = self.real[: len(expected)]
        return self._close(key, logits[: len(expected)][real], expected[real])

    @torch.no_grad()
    def _float32_logits(self) -> Tensor:
        wide = load_checkpoint(self.folder, dtype=torch.float32, device=self.expected["input_ids"].device).decoder
        return wide.logits(_forward(wide, self.expected["input_ids"], self.expected["attention_mask"]))


def shifted_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy in float32 of each token under the logits before it, over labels other than -100."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def _forward(decoder: Decoder, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """A padded batch; padding on the left hides the first columns (a pad itself sees itself alone)."""
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    first_real = attention_mask.argmax(dim=1, keepdim=True)
    return decoder(input_ids, first_visible=torch.minimum(first_real, columns).int())


def _greedy_recomputed(decoder: Decoder, prompt: Tensor, steps: int) -> list[Tensor]:
    """Logits of each step.  -> steps x [vocab]"""
    rows, ids = [], prompt
    for _ in range(steps):
        rows.append(decoder.logits(decoder(ids)[:, -1])[0])
        ids = torch.cat((ids, rows[-1].argmax().reshape(1, 1)), dim=1)
    return rows


def _greedy_cached(decoder: Decoder, prompt: Tensor, steps: int) -> list[Tensor]:
    """The same through the key-value cache."""
    length = prompt.shape[1] + steps
    weight = decoder.head_weight
    cache = KeyValueCache(decoder.config, rows=1, capacity=length, dtype=weight.dtype, device=weight.device)
    rows, ids = [], prompt
    for _ in range(steps):
        rows.append(decoder.logits(decoder(ids, cache=cache, rope_length=length)[:, -1])[0])
        ids = rows[-1].argmax().reshape(1, 1)
    return rows


def _judged(key: str, difference: float, allowed: float) -> Comparison:
    return Comparison(key, "pass" if difference <= allowed else "fail", difference, allowed)  # NaN fails


def _judged_tokens(key: str, rows: list[Tensor], expected: Tensor, margin: float) -> Comparison:
    """Token for token; where a margin is allowed, the comparison ends at the first step that is closer than it."""
    for step, logits in enumerate(rows):
        best = logits.topk(2).values
        if best[0] - best[1] < margin:
            return Comparison(key, "pass", 0.0, 0.0, f"{step} of {len(rows)} tokens, then the two best are closer than {margin}")
        if int(logits.argmax()) != int(expected[step]):
            return Comparison(key, "fail", None, 0.0, f"token {step} is {int(logits.argmax())}, expected {int(expected[step])}")
    return Comparison(key, "pass", 0.0, 0.0, f"{len(rows)} of {len(rows)} tokens")


def _order(key: str) -> tuple[int, str]:
    ranks = ("logits", "hidden_last", "logits_float32", "loss", "grad.", "greedy", "logits_long", "rope.", "logits_", "loss_")
    exact = [rank for rank, start in enumerate(ranks) if key == start]
    starts = [rank for rank, start in enumerate(ranks) if key.startswith(start)]
    return (exact or starts[::-1] or [len(ranks)])[0], key
