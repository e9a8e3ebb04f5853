"""What a golden says of mixture layers, computed by us: the router's numbers, balance losses, and the forward with a capacity limit.

In: a decoder, and a forward of it over the golden's inputs. Out: a tensor for each key that a golden may hold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from beichen.nn.attention import attention
from beichen.nn.attention_backends import split_heads
from beichen.nn.balancing import balance_loss
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.places import Places
from beichen.nn.rope import rotate
from beichen.nn.routing import Routing

TOLERANCES = {  # where the golden states none
    "router_logits": 1e-4, "router_topk_ids": 0.0, "router_topk_weights": 1e-5, "router_kept": 0.0, "aux_loss": 1e-6, "loss_total": 1e-5,
}  # fmt: skip


class MaskOfOriginals:
    """A ``Cache`` that keeps nothing; shows queries what the originals' masks do: real columns up to their own.

    So padding does not see even itself; at the left, where it could see nothing, it does. What padding computes shows in balance losses
    that count it, and nowhere else.
    """

    length = 0

    def __init__(self, config: DecoderConfig, attention_mask: Tensor) -> None:
        self._config = config
        columns = attention_mask.shape[1]
        own = torch.eye(columns, dtype=torch.bool, device=attention_mask.device)
        seen = attention_mask.bool()[:, None] & torch.ones_like(own).tril()
        self._seen = (seen | (own & ~seen.any(-1, keepdim=True)))[:, None]  # [rows, 1, tokens, columns]

    def attend(self, layer: int, qkv: Tensor, places: Places) -> Tensor:
        query, key, value = split_heads(qkv, self._config.num_key_value_heads, self._config.head_dim)
        query, key = rotate(query, places.cos, places.sin), rotate(key, places.cos, places.sin)
        return attention(query, key.transpose(1, 2), value.transpose(1, 2), None, mask=self._seen)

    def advance(self, tokens: int) -> None:
        """Nothing is kept, so nothing moves."""


class Forward(Protocol):
    """A decoder over the golden's padded batch.  -> logits, and the loss"""

    def __call__(self, decoder: Decoder, routings: list[Routing]) -> tuple[Tensor, Tensor]: ...


def balance(config: DecoderConfig, routings: list[Routing], **changes: Any) -> Tensor:
    """The balance loss of every mixture layer, padding counted and rows weighing alike, as the originals do.  -> [layers]"""
    assert config.experts is not None
    experts = replace(config.experts, **changes)
    return balance_loss(routings, experts).mean(1)


def mixture_values(
    decoder: Decoder, routings: list[Routing], loss: Tensor, forward: Forward, capacity_factor: float | None
) -> dict[str, Tensor]:  # fmt: skip
    """Key -> our tensor. routings, loss: of a plain forward; empty if the decoder has no experts."""
    config = decoder.config
    if config.experts is None:
        return {}
    layers = [layer for layer in range(config.num_hidden_layers) if config.experts_of(layer) is not None]
    losses = balance(config, routings)
    values = {
        "aux_loss": losses.sum(),
        "loss_total": loss + losses.sum(),
        "aux_loss_seq": balance(config, routings, balance_form="sequence"),
        "aux_loss_batch": balance(config, routings, balance_form="batch"),
    }
    for layer, routing, own in zip(layers, routings, losses, strict=True):
        values |= {
            f"router_logits.{layer}": routing.logits,
            f"router_topk_ids.{layer}": routing.chosen,
            f"router_topk_weights.{layer}": routing.weights,
            f"aux_loss.{layer}": own,
        }
    if capacity_factor is not None:
        limited: list[Routing] = []
        with torch.no_grad():
            values["logits_capacity"], values["loss_capacity"] = forward(_with_capacity(decoder, capacity_factor), limited)
        for layer, routing in zip(layers, limited, strict=True):
            assert routing.kept is not None
            values[f"router_kept.{layer}"] = routing.kept.long()
    return values


def _with_capacity(decoder: Decoder, factor: float) -> Decoder:
    """The same weights in training mode, without dropout, where each expert serves ``factor`` times its even share."""
    config = decoder.config
    assert config.experts is not None
    experts = replace(config.experts, capacity_factor=factor)
    with torch.device("meta"):
        limited = Decoder(replace(config, experts=experts, attention_dropout=0.0, hidden_dropout=0.0))
    limited.load_state_dict(decoder.state_dict(), assign=True)
    return limited.train()
