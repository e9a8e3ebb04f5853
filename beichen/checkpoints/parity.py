"""Golden folders: tiny checkpoints with the numbers that the original code gave, compared with ours key by key.

In: a folder holding ``golden.json``. Out: a ``CaseResult``, one ``Comparison`` per key. The folder is loaded like any checkpoint,
so names, shards, number formats and tied weights are exercised too. A key that we do not compare is reported as skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from beichen.checkpoints import parity_experts, parity_positions
from beichen.checkpoints.conversion import conversions
from beichen.checkpoints.loading import Checkpoint, load_checkpoint
from beichen.checkpoints.reading import read_json
from beichen.errors import BeichenError
from beichen.models.registry import UnsupportedFamilyError, load_family
from beichen.nn.decoder import Decoder
from beichen.nn.greedy import greedy_logits
from beichen.nn.routing import Routing

GOLDEN = "golden.json"
INPUTS = (
    "input_ids", "attention_mask", "labels", "leftpad.input_ids", "leftpad.attention_mask", "leftpad.position_ids",
    *parity_positions.INPUTS,
)  # fmt: skip
OWN_TOLERANCES = {**parity_positions.TOLERANCES, **parity_experts.TOLERANCES}  # where the golden states none
Verdict = Literal["pass", "fail", "skipped"]


@dataclass(frozen=True)
class Comparison:
    """One key of a golden: the measured difference and what was allowed."""

    key: str
    verdict: Verdict
    difference: float | None = None
    tolerance: float | None = None
    note: str = ""
    compatibility: str | None = None  # the fault of the original that was on


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
        self.expected, self.golden, self.tolerances = tensors, golden, golden.get("tolerance", {})
        self.real = tensors["attention_mask"].bool()
        self._faulty: dict[str, Tensor] = {}  # logits by compatibility

    def compare(self) -> Iterator[Comparison]:
        routings: list[Routing] = []
        hidden = self._forward(self.decoder, routings)
        logits = self.decoder.logits(hidden)
        loss = shifted_loss(logits, self.expected["labels"])
        factor = self.golden.get("moe_capacity_factor_for_logits_capacity")
        computed: dict[str, Callable[[], Tensor]] = {
            "logits": lambda: logits,
            "hidden_last": lambda: hidden,
            "loss": lambda: loss,
            "logits_float32": lambda: self._loaded_anew(torch.float32),
            "logits_native_bf16": lambda: self._loaded_anew(torch.bfloat16, "_rope_bf16")[:1],
        }
        mixture = parity_experts.mixture_values(self.decoder, routings, loss, self._logits_and_loss, factor)
        whole = mixture.get("loss_total", loss) if self.golden.get("grad_of") == "loss_total" else loss
        gradients = {start: self._gradients(one, start) for start, one in (("grad.", whole), ("grad_main_only.", loss))}
        for key in sorted(self.expected, key=_order):
            expected = self.expected[key]
            start = key.partition(".")[0] + "."
            if key in INPUTS or key.startswith("input_ids_long") or (key == "greedy_cached" and "greedy" in self.expected):
                continue
            if key in computed or key in mixture:
                ours = mixture[key] if key in mixture else computed[key]()
                yield self._close(key, self._where_real(ours, expected), self._where_real(expected, expected))
            elif start in gradients:
                yield self._gradient(key, gradients[start].get(key.removeprefix(start)), expected)
            elif key.endswith("_compat"):
                yield Comparison(key, "skipped", note="shows a fault of the original, which is not to be matched")
            elif key.startswith("greedy"):
                yield from self._greedy(key, expected)
            elif key == "leftpad.logits":
                yield self._left_padded(key, expected)
            elif (pair := parity_positions.pair(self.decoder, self.expected, key)) is not None:
                yield self._close(key, pair.ours, pair.expected, tolerance=self._named(pair.tolerance))
            elif (name := self._compatibility_of(key)) is not None:
                yield replace(self._compatible(key, name, expected), compatibility=name)
            else:
                yield Comparison(key, "skipped", note="unknown key")

    def _forward(self, decoder: Decoder, routings: list[Routing] | None = None) -> Tensor:
        return _forward(decoder, self.expected["input_ids"], self.expected["attention_mask"], routings)

    def _logits_and_loss(self, decoder: Decoder, routings: list[Routing]) -> tuple[Tensor, Tensor]:
        logits = decoder.logits(self._forward(decoder, routings))
        return logits, shifted_loss(logits, self.expected["labels"])

    def _where_real(self, tensor: Tensor, expected: Tensor) -> Tensor:
        """Padding's own rows of what has a row for each token (the golden may hold the first row alone) are undefined."""
        real = self.real[: len(expected)] if expected.ndim else self.real
        return tensor[real] if expected.ndim == 3 and tensor.shape[:2] == real.shape else tensor

    def _close(self, key: str, ours: Tensor, expected: Tensor, *, tolerance: float | None = None) -> Comparison:
        allowed = self._tolerance(key) if tolerance is None else tolerance
        if allowed is None:
            return Comparison(key, "skipped", note="the golden states no tolerance")
        if ours.shape != expected.shape:
            return Comparison(key, "fail", None, allowed, f"shape {list(ours.shape)}, expected {list(expected.shape)}")
        difference = (ours.detach().double() - expected.double()).abs().max().item()
        return _judged(key, difference, allowed)

    def _named(self, tolerance: str | float | None) -> float | None:
        return self._tolerance(tolerance) if isinstance(tolerance, str) else tolerance

    def _tolerance(self, key: str) -> float | None:
        bases = ("logits_long", "logits", "loss_total", "loss", *parity_experts.TOLERANCES)
        general = next((base for base in bases if key.startswith(base)), key)
        value = self.tolerances.get(key, self.tolerances.get(general, OWN_TOLERANCES.get(general)))
        return 0.0 if value == "exact" else value

    def _gradients(self, loss: Tensor, start: str) -> dict[str, Tensor]:
        """Gradients of the loss under published names, if a key begins with ``start``."""
        wanted = [key.removeprefix(start) for key in self.expected if key.startswith(start)]
        if not wanted:
            return {}
        self.decoder.zero_grad()
        loss.backward(retain_graph=True)
        table = load_family(self.checkpoint.family).names
        ours = {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in self.decoder.named_parameters()}
        return {name: view.tensor() for name, view in table.views(ours, self.decoder.config, bare=table.omits_prefix(wanted)).items()}

    def _gradient(self, key: str, ours: Tensor | None, expected: Tensor) -> Comparison:
        allowed = self.tolerances.get("grad_rel", 1e-3)
        if ours is None or ours.shape != expected.shape:
            return Comparison(key, "fail", None, allowed, "no such tensor of this shape in the model")
        return _judged(key, ((ours - expected).norm() / expected.norm().clamp_min(1e-30)).item(), allowed)

    @torch.no_grad()
    def _greedy(self, key: str, expected: Tensor) -> Iterator[Comparison]:
        """Full recomputation at every step; where one rope rule holds for all of them the cached path must agree."""
        prompt = self.expected.get(key.replace("greedy", "input_ids"))
        if prompt is None:
            yield Comparison(key, "skipped", note="unknown key, or its input is missing")
            return
        prompt = prompt[:1]
        rule = self.tolerances.get(key, self.tolerances.get("greedy", "exact"))
        margin = self._tolerance("logits") or 0.0 if str(rule).startswith("exact up to") else 0.0
        yield _judged_tokens(key, _greedy_recomputed(self.decoder, prompt, len(expected)), expected, margin)
        if parity_positions.keeps_its_rule(self.decoder, prompt.shape[1], prompt.shape[1] + len(expected)):
            cached = self.expected.get(f"{key}_cached", expected)
            yield _judged_tokens(f"{key}_cached", _greedy_cached(self.decoder, prompt, len(cached)), cached, margin)

    @torch.no_grad()
    def _left_padded(self, key: str, expected: Tensor) -> Comparison:
        ids, mask, positions = (self.expected[f"leftpad.{name}"] for name in ("input_ids", "attention_mask", "position_ids"))
        logits, real = self.decoder.logits(_forward(self.decoder, ids, mask, positions=positions)), mask.bool()
        return self._close(key, logits[real], expected[real])

    def _compatibility_of(self, key: str) -> str | None:
        faults = load_family(self.checkpoint.family).compatibility
        wanted = {base + fault.golden_suffix: name for name, fault in faults.items() for base in ("logits", "loss")}
        return wanted.get(key)

    @torch.no_grad()
    def _compatible(self, key: str, name: str, expected: Tensor) -> Comparison:
        """The same forward with a fault of the original; the golden may hold the first row alone."""
        if name not in self._faulty:
            dtype, device = self.decoder.dtype, self.decoder.device
            faulty = load_checkpoint(self.folder, dtype=dtype, device=device, compatibility=(name,)).decoder
            self._faulty[name] = faulty.logits(self._forward(faulty))
        logits = self._faulty[name]
        if expected.ndim == 0:
            return self._close(key, shifted_loss(logits, self.expected["labels"]), expected)
        return self._close(key, self._where_real(logits[: len(expected)], expected), self._where_real(expected, expected))

    @torch.no_grad()
    def _loaded_anew(self, dtype: torch.dtype, fault: str = "") -> Tensor:
        """Logits in another number format; fault: the golden suffix of a compatibility that is on."""
        faults = [name for name, one in load_family(self.checkpoint.family).compatibility.items() if one.golden_suffix == fault]
        device = self.expected["input_ids"].device
        decoder = load_checkpoint(self.folder, dtype=dtype, device=device, compatibility=faults).decoder
        return decoder.logits(self._forward(decoder))


def shifted_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy in float32 of each token under the logits before it, over labels other than -100."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def _forward(
    decoder: Decoder, input_ids: Tensor, attention_mask: Tensor, routings: list[Routing] | None = None, positions: Tensor | None = None
) -> Tensor:  # fmt: skip
    """A padded batch; padding on the left hides the first columns (a pad itself sees itself alone)."""
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    first_real = attention_mask.argmax(dim=1, keepdim=True)
    first_visible = torch.minimum(first_real, columns).int()
    cache = None if decoder.config.experts is None else parity_experts.MaskOfOriginals(decoder.config, attention_mask)
    hidden: Tensor = decoder(input_ids, positions=positions, first_visible=first_visible, cache=cache, routings=routings)
    return hidden


def _greedy_recomputed(decoder: Decoder, prompt: Tensor, steps: int) -> list[Tensor]:
    """Logits of each step.  -> steps x [vocab]"""
    rows, ids = [], prompt
    for _ in range(steps):
        rows.append(decoder.logits(decoder(ids)[:, -1])[0])
        ids = torch.cat((ids, rows[-1].argmax().reshape(1, 1)), dim=1)
    return rows


def _greedy_cached(decoder: Decoder, prompt: Tensor, steps: int) -> list[Tensor]:
    """The same through the key-value cache."""
    return list(greedy_logits(decoder, prompt[0], length=prompt.shape[1] + steps))


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
