"""What objectives of preferences share: a batch of whole documents to a sum over its pairs, and what the log shows of them.

In: the decoder, a batch whose ``documents`` say which answer each position belongs to, and the log-probability of every answer under the
reference, known beforehand. Rule: sums over units, divided once by the units of the whole step, so how a step is cut changes no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from beichen.data.batch import Documents
from beichen.nn.cross_entropy import IGNORED
from beichen.nn.decoder import Decoder
from beichen.nn.log_probabilities import log_probabilities
from beichen.nn.routing import Routing
from beichen.objectives.balance import mixture_sums
from beichen.objectives.types import LossSum, Scored

Mixed = tuple[dict[str, Tensor], dict[str, Tensor]]  # losses, figures


def answer_log_probabilities(decoder: Decoder, batch: Scored, routings: list[Routing] | None = None) -> tuple[Tensor, Tensor]:
    """(log-probability, number of targets) of each document's scored part.  -> [documents] float32, [documents] float32

    routings: receives what each mixture layer decided.
    """
    documents = documents_of(batch)
    longest = batch.input_ids.shape[1]
    reach = longest if decoder.config.stretch_in_training else min(longest, decoder.config.max_position_embeddings)
    hidden = decoder(
        batch.input_ids, positions=batch.positions, first_visible=batch.first_visible, rope_length=reach, routings=routings
    )  # the same rope rule while training and while scoring
    scored = batch.targets != IGNORED
    each = log_probabilities(hidden[scored], decoder.head_weight, batch.targets[scored], logit_scale=decoder.config.logit_scale)
    place, count = documents.place[scored], len(documents.number)
    sums = torch.zeros(count, dtype=torch.float32, device=each.device).index_add(0, place, each)
    return sums, torch.bincount(place, minlength=count).float()


@dataclass(frozen=True, kw_only=True)
class PreferenceObjective:
    """The reference, and how a batch is compared with it."""

    reference: Tensor  # [documents of the data set] float32, on the decoder's device
    beta: float
    sft_weight: float = 0.0  # of the mean loss of a token of the better answer, for each of them
    per_token: bool = False  # an answer's log-probability is the mean over its tokens, not the sum

    def answers(self, decoder: Decoder, batch: Scored) -> tuple[Tensor, Tensor, Mixed]:
        """(log-ratio, mean loss of a token) of each document, and what a mixture of experts adds to losses and figures."""
        routings: list[Routing] = []
        sums, targets = answer_log_probabilities(decoder, batch, routings)
        return self.log_ratio(sums, targets, documents_of(batch)), -sums / targets, mixture_sums(decoder, routings, batch)

    def log_ratio(self, sums: Tensor, targets: Tensor, documents: Documents) -> Tensor:
        """How much likelier each answer is than under the reference. sums, targets [documents]  -> [documents] nats"""
        difference = sums - self.reference[documents.number]
        return difference / targets if self.per_token else difference

    def sft(self, better: Tensor) -> dict[str, Tensor]:
        """better: mean losses of a token of the better answers. [answers]"""
        return {"sft_loss": self.sft_weight * better.sum()} if self.sft_weight else {}


@dataclass(frozen=True, kw_only=True)
class PairObjective(PreferenceObjective):
    """Documents 2u and 2u + 1 of a batch are a pair, the better one first."""

    loss: Callable[[Tensor, Tensor], Tensor]  # log-ratios of the chosen and of the rejected answers -> losses, [pairs]

    def __call__(self, decoder: Decoder, batch: Scored) -> LossSum:
        if batch.documents is None:
            return nothing(decoder)
        log_ratio, token_loss, (balance, loads) = self.answers(decoder, batch)
        chosen, rejected = log_ratio[0::2], log_ratio[1::2]
        rewards = self.beta * torch.stack((chosen, rejected)).detach()
        margin = rewards[0] - rewards[1]
        return LossSum(
            loss_sum=self.loss(chosen, rejected).sum(), target_count=batch.target_count,
            auxiliary=self.sft(token_loss[0::2]) | balance,
            figures={
                "chosen_reward": rewards[0].sum(), "rejected_reward": rewards[1].sum(), "margin": margin.sum(),
                "accuracy": (margin > 0).float().sum(), **loads,
            },
        )  # fmt: skip


def documents_of(batch: Scored) -> Documents:
    """Which document each position belongs to."""
    if batch.documents is None:
        raise ValueError("preference objectives read batches whose documents are known")
    return batch.documents


def nothing(decoder: Decoder) -> LossSum:
    """What an empty batch gives: a loss with a gradient of 0."""
    return LossSum(loss_sum=decoder.head_weight.flatten()[:1].float().sum() * 0.0, target_count=0)
