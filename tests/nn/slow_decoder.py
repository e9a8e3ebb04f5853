"""The decoder written a second time: float64, one row, one head, one query at a time, and no idea shared with ``beichen.nn``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig
from beichen.nn.decoder import Decoder


def slow_frequencies(rope: RopeConfig, head_dim: int, length: int) -> tuple[list[float], float]:
    """Angle per position of each pair, and the scale on cos and sin; each rule as its source states it, in scalars."""
    base, scale = rope.base, rope.attention_scale
    power = head_dim / (head_dim - 2)
    if rope.rule == "ntk":
        base = base * rope.factor**power
    if rope.rule == "dynamic_ntk" and length > rope.original_length:  # DynamicNTKScalingRotaryEmbedding of transformers
        base = base * ((rope.factor * length / rope.original_length) - (rope.factor - 1)) ** power
    if rope.rule == "stepped_ntk":  # get_ntk_alpha of Qwen 1
        base = base * _alpha(length, rope) ** power
    if rope.rule == "stepped_base":  # modeling_telechat.py of TeleChat-52B
        base = base * _alpha(length, rope)
    if rope.rule == "scaled_stepped_ntk":  # modeling_telechat.py of TeleChat2
        longest = max(length, rope.trained_length)
        base = base * _alpha(longest, rope) ** power
        if longest > rope.trained_length:
            scale = 0.1 * math.log(longest / rope.trained_length) + 1.0
    angles = [base ** (-2 * pair / head_dim) for pair in range(head_dim // 2)]
    if rope.rule == "linear":
        angles = [angle / rope.factor for angle in angles]
    if rope.rule == "llama3":  # the reference code of Llama 3.1: apply_scaling
        angles = [_llama3(angle, rope) for angle in angles]
    if rope.rule == "yarn":  # the authors' LlamaYaRNScaledRotaryEmbedding
        angles = [_yarn(pair, angle, rope, head_dim) for pair, angle in enumerate(angles)]
    return angles, scale


def _alpha(length: int, rope: RopeConfig) -> int:
    return max(2 ** math.ceil(math.log(length / rope.original_length, 2) + 1) - 1, 1)


def _yarn(pair: int, angle: float, rope: RopeConfig, head_dim: int) -> float:
    bounds = [
        head_dim * math.log(rope.original_length / (turns * 2 * math.pi)) / (2 * math.log(rope.base))
        for turns in (rope.fast_turns, rope.slow_turns)
    ]
    if rope.whole_pairs:
        bounds = [math.floor(bounds[0]), math.ceil(bounds[1])]
    low, high = max(bounds[0], 0), min(bounds[1], head_dim - 1)
    if low == high:
        high += 0.001
    ramp = min(max((pair - low) / (high - low), 0), 1)
    return angle / rope.factor * ramp + angle * (1 - ramp)


def _llama3(angle: float, rope: RopeConfig) -> float:
    low_wavelength = rope.original_length / rope.low_frequency_factor
    high_wavelength = rope.original_length / rope.high_frequency_factor
    wavelength = 2 * math.pi / angle
    if wavelength < high_wavelength:
        return angle
    if wavelength > low_wavelength:
        return angle / rope.factor
    smooth = (rope.original_length / wavelength - rope.low_frequency_factor) / (rope.high_frequency_factor - rope.low_frequency_factor)
    return (1 - smooth) * angle / rope.factor + smooth * angle


def slow_rotate(head: Tensor, position: int, angles: list[float], scale: float) -> Tensor:
    """One head's vector [head_dim] at one position."""
    half = len(angles)
    out = torch.empty_like(head)
    for pair, angle in enumerate(angles):
        cos, sin = math.cos(position * angle) * scale, math.sin(position * angle) * scale
        out[pair] = head[pair] * cos - head[pair + half] * sin
        out[pair + half] = head[pair] * sin + head[pair + half] * cos
    return out


def slow_attention(query: Tensor, key: Tensor, value: Tensor, first_visible: Tensor, past: int = 0) -> Tensor:
    """query [rows, tokens, heads, d]; key, value [rows, columns, key_value_heads, d].  -> [rows, tokens, heads * d] float64"""
    rows, tokens, heads, width = query.shape
    group = heads // key.shape[2]
    out = torch.zeros(rows, tokens, heads, width, dtype=torch.float64)
    for row in range(rows):
        for token in range(tokens):
            columns = range(int(first_visible[row, token]), past + token + 1)
            for head in range(heads):
                scores = [float(query[row, token, head] @ key[row, column, head // group]) / math.sqrt(width) for column in columns]
                largest = max(scores)
                weights = [math.exp(score - largest) for score in scores]
                for weight, column in zip(weights, columns, strict=True):
                    out[row, token, head] += weight / sum(weights) * value[row, column, head // group]
    return out.flatten(2)


def slow_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """RMSNorm without a bias, LayerNorm with one, vector by vector."""
    out = torch.empty_like(x)
    for place, vector in enumerate(x.reshape(-1, x.shape[-1])):
        mean = 0.0 if bias is None else float(vector.mean())
        spread = math.sqrt(float(((vector - mean) ** 2).mean()) + eps)
        out.view(-1, x.shape[-1])[place] = (vector - mean) / spread * weight + (0.0 if bias is None else bias)
    return out


def slow_hidden(decoder: Decoder, ids: Tensor, positions: Tensor, first_visible: Tensor, rope_length: int) -> Tensor:
    """What ``decoder(ids, ...)`` should give, [rows, tokens, hidden] float64."""
    config: DecoderConfig = decoder.config
    state = {name: tensor.detach().double() for name, tensor in decoder.state_dict().items()}
    angles, scale = slow_frequencies(config.rope, config.head_dim, rope_length)
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim

    def linear(name: str, x: Tensor) -> Tensor:
        y = x @ state[f"{name}.weight"].T
        return y + state[f"{name}.bias"] if f"{name}.bias" in state else y

    def norm(name: str, x: Tensor) -> Tensor:
        return slow_norm(x, state[f"{name}.weight"], state.get(f"{name}.bias"), config.norm_eps)

    def turned(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for row in range(x.shape[0]):
            for token in range(x.shape[1]):
                for head in range(x.shape[2]):
                    out[row, token, head] = slow_rotate(x[row, token, head], int(positions[row, token]), angles, scale)
        return out

    def sharpened(query: Tensor) -> Tensor:
        """logn attention of Qwen 1: log(p, trained length) at places p = 1, 2, ... beyond it."""
        out = query.clone()
        length = config.query_scaling_length
        for row in range(query.shape[0]):
            for token in range(query.shape[1]):
                place = int(positions[row, token]) + 1
                out[row, token] *= math.log(place, length) if length is not None and place > length else 1.0
        return out

    x = state["embedding.weight"][ids] * config.embedding_scale
    if config.embedding_norm:
        x = norm("embedding_norm", x)
    for layer in range(config.num_hidden_layers):
        here = f"layers.{layer}"
        normed = norm(f"{here}.attention_norm", x)
        fused = linear(f"{here}.attention.qkv", normed).unflatten(-1, (-1, width))
        query, key, value = fused[:, :, :heads], fused[:, :, heads : heads + groups], fused[:, :, heads + groups :]
        if config.query_key_norm:
            query, key = norm(f"{here}.attention.query_norm", query), norm(f"{here}.attention.key_norm", key)
        mixed = slow_attention(sharpened(turned(query)), turned(key), value, first_visible)
        x = (normed if config.residual_after_norm else x) + linear(f"{here}.attention.output", mixed)
        normed = norm(f"{here}.feed_forward_norm", x)
        experts = config.experts_of(layer)
        if experts is None:
            gate, up = linear(f"{here}.feed_forward.gate_up", normed).chunk(2, dim=-1)
            update = linear(f"{here}.feed_forward.down", gate / (1 + torch.exp(-gate)) * up)
        else:
            update = slow_mixture({name.removeprefix(f"{here}.feed_forward."): one for name, one in state.items()}, experts, normed)
        x = (normed if config.residual_after_norm else x) + update
    return norm("final_norm", x)


def slow_mixture(state: dict[str, Tensor], config: ExpertsConfig, x: Tensor) -> Tensor:
    """Every token through every expert, then the best ones' weighted sum."""
    scores = (x @ state["router.weight"].T).softmax(-1)

    def through(prefix: str, expert: int | None = None) -> Tensor:
        gate_up, down = (state[f"{prefix}.{part}.weight"] if expert is None else state[f"{prefix}.{part}.weight"][expert]
                         for part in ("gate_up", "down"))  # fmt: skip
        gate, up = (x @ gate_up.T).chunk(2, dim=-1)
        return gate / (1 + torch.exp(-gate)) * up @ down.T

    out = through("shared") if config.shared_intermediate_size else torch.zeros_like(x)
    ranks = scores.argsort(dim=-1, descending=True).argsort(dim=-1)
    chosen = scores * (ranks < config.num_experts_per_token)
    if config.normalize_top_k:
        chosen = chosen / chosen.sum(-1, keepdim=True)
    for expert in range(config.num_experts):
        answer = through("experts", expert)
        if config.down_bias:
            answer = answer + state["experts.down.bias"][expert]
        out = out + chosen[..., expert, None] * answer
    return out


def slow_logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    """[..., hidden] -> [..., vocab] float64."""
    name = "embedding.weight" if decoder.config.tie_word_embeddings else "head.weight"
    return hidden.double() @ decoder.state_dict()[name].double().T * decoder.config.logit_scale


def packed_row(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """positions and first_visible [1, tokens] of documents of these lengths, one after another."""
    positions: list[int] = []
    first_visible: list[int] = []
    for length in lengths:
        begin = len(positions)
        positions += list(range(length))
        first_visible += [begin] * length
    return torch.tensor([positions], dtype=torch.int32), torch.tensor([first_visible], dtype=torch.int32)
