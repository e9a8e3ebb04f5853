"""An adapter folded into its base at the base's own precision, and the proof that the result is the same model.

The probe set runs through the base with the adapter on it and through the merged weights, both computing in float32. All that may differ
is what rounding the merged matrices to the base's number format costs. How much that is in this model is shown by rounding them once more
at random, up or down, right on average: against the nearest neighbours, matrices move by a variance three times that of rounding to
nearest. If merged and unmerged logits differ (root mean square) by more than ``LIMIT`` times what this moves them, plus float32's own
noise, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from beichen.checkpoints.adapter_loading import load_adapted
from beichen.checkpoints.loading import load_checkpoint, widest
from beichen.checkpoints.reading import WeightFiles, open_shard
from beichen.checkpoints.saving import copy_side_files, save_checkpoint
from beichen.checkpoints.tokenizers import load_tokenizer
from beichen.errors import CheckpointError, StorageError
from beichen.models.linear_names import linear_layers, places
from beichen.models.naming import NameTable
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.nn.experts import StackedLinear
from beichen.nn.linear import Linear
from beichen.nn.linear_layer import LinearLayer
from beichen.nn.low_rank import LowRank
from beichen.text.vocabulary_folder import holds_tokenizer
from beichen.util.progress import SILENT, Reporter
from beichen.util.random import keyed_torch_generator

LIMIT = 1.5  # of what random rounding moves logits by, root mean square; rounding to nearest is expected at 0.58 of it
NOISE = 1e-5  # of the largest logit: sums in another order, in float32
PROBES, PROBE_TOKENS = 4, 64
PROBE_TEXTS = (
    "天气预报说明天多云转晴，最高气温二十三度，适合出门。请你给我一个周末的计划。",
    "The train to the coast leaves at 8:15 and takes two hours. How much time is left for a walk on the beach?",
    "def area(width, height):\n    return width * height\n",
)


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """How merged and unmerged agree on the probe set; errors are differences of logits."""

    out: Path
    layers: int  # published linear layers that were adapted
    formats: list[str]  # that the merged matrices were rounded to
    positions: int
    error: float  # root mean square
    largest_error: float
    rounding: float  # root mean square by which logits move when the same matrices are rounded at random
    limit: float
    divergence: float  # mean KL(unmerged || merged), nats
    same_choice: float  # share of positions with the same likeliest token

    def as_text(self) -> str:
        """For people."""
        divergence = f"KL {self.divergence:.2e} nats" if self.divergence > 0 else "KL 0, to rounding"
        rounded = f"{self.layers} layers folded in, rounded to {', '.join(self.formats)}"
        return (
            f"{rounded}\n{self.positions} probed positions: logits differ by {self.error:.2e} (root mean square; largest "
            f"{self.largest_error:.2e}); random rounding moves them by {self.rounding:.2e}; limit {self.limit:.2e}\n"
            f"same likeliest token at {self.same_choice:.1%} of positions, {divergence}\n{self.out}"
        )


@torch.no_grad()
def merge_adapter(
    adapter: Path | str, out: Path | str, *, base: Path | str | None = None, device: torch.device | str = "cpu", reporter: Reporter = SILENT
) -> MergeReport:  # fmt: skip
    """Write ``out``: a checkpoint like the base, the adapter in its weights. Takes 4 bytes a parameter beside the model itself.

    Raises CheckpointError for a base that is not the one trained on, and where merged and unmerged differ beyond the limit.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out} exists and is not an empty folder", remedy="choose another folder; nothing is overwritten")
    place, checkpoint, stored = load_adapted(adapter, base=base, device=device, dtype=torch.float32, thorough=True, reporter=reporter)
    wide, family = checkpoint.decoder, load_family(checkpoint.family)
    own = load_checkpoint(place, reporter=reporter).decoder
    probes = [probe.to(device) for probe in _probes(place, own)]
    expected = _logits(wide, probes)
    formats = _formats(place, family.names, wide)
    used = _fold(wide, own, formats)
    moved = _logits(wide, probes)
    for name, layer in linear_layers(own).items():
        wide.get_submodule(name).weight = nn.Parameter(layer.full_weight().to(device, torch.float32), requires_grad=False)
    merged = _logits(wide, probes)
    found, rounding = _compare(expected, merged), _compare(merged, moved).error
    report = MergeReport(
        out=out, layers=len(stored.shape.ranks), positions=len(expected),
        formats=sorted(str(dtype).removeprefix("torch.") for dtype in used),
        error=found.error, largest_error=found.largest, rounding=rounding,
        limit=LIMIT * rounding + NOISE * float(expected.abs().max()), divergence=found.divergence, same_choice=found.same_choice,
    )  # fmt: skip
    if not report.error <= report.limit:
        raise CheckpointError(
            f"{adapter}: merged and unmerged logits differ by {report.error:.2e} (root mean square), rounding explains {report.limit:.2e}; "
            f"{out} is not written",
            remedy="report this with the adapter's adapter_config.json: the fold is wrong, or the weights are not finite",
        )
    own.requires_grad_(True)
    save_checkpoint(
        out, own, family=checkpoint.family, published=checkpoint.published, source=place, replace=True,
        write_extra=[lambda inside: copy_side_files(Path(adapter), inside)], reporter=reporter,
    )  # fmt: skip
    return report


def _fold(wide: Decoder, own: Decoder, formats: dict[str, list[tuple[torch.dtype, Tensor]]]) -> set[torch.dtype]:
    """Set the matrices of ``own`` to the nearest of what ``wide`` computes with, those of ``wide`` to a random neighbour; adapters go.

    Of a quantized base all matrices are taken: what was trained is what was dequantized.  -> number formats that were rounded to
    """
    used: set[torch.dtype] = set()
    targets = linear_layers(own)
    for name, layer in linear_layers(wide).items():
        if layer.held_as is None and layer.adapter is None:
            continue
        weight = layer.full_weight()
        exact = layer.adapter.folded(weight) if isinstance(layer.adapter, LowRank) else weight
        nearest, random = exact.clone(), exact.clone()
        generator = keyed_torch_generator(0, f"rounding {name}", 0)
        for dtype, rows in formats[name]:
            used.add(dtype)
            lines = exact.flatten(0, -2)[rows]
            nearest.flatten(0, -2)[rows] = lines.to(dtype).float()
            random.flatten(0, -2)[rows] = _rounded_at_random(lines, dtype, generator)
        targets[name].full_weight().copy_(nearest)
        wide.set_submodule(name, _plain(layer, random))
    return used


def _plain(layer: LinearLayer, weight: Tensor) -> nn.Module:
    with torch.device("meta"):
        plain = Linear(1, 1, bias=False) if weight.ndim == 2 else StackedLinear(1, 1, 1, bias=False)
    plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
    return plain


def _rounded_at_random(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """One of the two neighbours in a number format, the nearer the likelier; float32."""
    exponents = torch.frexp(values).exponent
    spacing = torch.ldexp(torch.full_like(values, torch.finfo(dtype).eps / 2, dtype=torch.float64), exponents)
    shift = torch.rand(values.shape, generator=generator, dtype=torch.float64) - 0.5
    return (values.double() + shift.to(values.device) * spacing).to(dtype).float()


def _formats(folder: Path, names: NameTable, decoder: Decoder) -> dict[str, list[tuple[torch.dtype, Tensor]]]:
    """By our layer: rows (of a stack, counted through) and the number format that the base's files hold them in."""
    files = WeightFiles(folder)
    bare, layers = names.omits_prefix(files.where), linear_layers(decoder)
    stored: dict[str, torch.dtype] = {}
    for path, held in files.shards():
        with open_shard(path) as shard:
            stored |= {name: widest([shard.dtype(name)]) for name in held}
        del shard
    found: dict[str, list[tuple[torch.dtype, Tensor]]] = {}
    for name, lies in places(names, decoder).items():
        file_name = f"{name.removeprefix(names.optional_prefix) if bare else name}.weight"
        begin = (lies.expert or 0) * layers[lies.layer].shape[-2]
        found.setdefault(lies.layer, []).append((stored[file_name], begin + lies.rows))
    return found


def _probes(folder: Path, decoder: Decoder) -> Iterator[Tensor]:
    """[1, tokens] each: ids drawn by key, and a few texts where there is a tokenizer."""
    config, generator = decoder.config, keyed_torch_generator(0, "merge probes", 0)
    length = min(PROBE_TOKENS, config.max_position_embeddings)
    yield from torch.randint(0, config.vocab_size, (PROBES, 1, length), generator=generator)
    if holds_tokenizer(folder):
        tokenizer = load_tokenizer(folder)
        yield from (torch.tensor([tokenizer.encode(text)[:length]]) for text in PROBE_TEXTS)


def _logits(decoder: Decoder, probes: Sequence[Tensor]) -> Tensor:
    """[positions, vocab] float32, on the CPU."""
    return torch.cat([decoder.logits(decoder(ids))[0].cpu() for ids in probes])


@dataclass(frozen=True)
class _Difference:
    error: float
    largest: float
    divergence: float
    same_choice: float


def _compare(expected: Tensor, found: Tensor) -> _Difference:
    difference = found - expected
    likely, other = expected.log_softmax(-1), found.log_softmax(-1)
    return _Difference(
        error=float(difference.square().mean().sqrt()), largest=float(difference.abs().max()),
        divergence=max(0.0, float((likely.exp() * (likely - other)).sum(-1).mean())),  # under 0 there is rounding alone
        same_choice=float((expected.argmax(-1) == found.argmax(-1)).float().mean()),
    )  # fmt: skip
