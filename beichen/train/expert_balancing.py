"""Training settings of a mixture of experts, set in its decoder; and the biases that keep the use of experts even without a loss.

In: a decoder, the settings, and after each step its loads. Out: what objectives and mixture layers read, and biases that move. The biases
are part of the network, so they are saved with it; their float32 masters are part of the training state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from beichen.errors import CheckpointError, SettingsError
from beichen.models.registry import load_family
from beichen.nn.balancing import Balancing
from beichen.nn.decoder import Decoder
from beichen.nn.experts import Mixture
from beichen.train.experts_settings import ExpertsTrainingSettings
from beichen.train.step import Gathered

EVEN = 1e-6  # shares of the choices that differ less from the mean are no deviation, so rounding moves no bias


def set_experts_training(decoder: Decoder, settings: ExpertsTrainingSettings, *, family: str) -> SelectionBiases | None:
    """Make ``decoder`` train as asked.  -> the biases to be moved after each step, if any. Raises SettingsError for what does not fit."""
    experts = decoder.config.experts
    if experts is None:
        if settings != ExpertsTrainingSettings():
            raise SettingsError("experts_training: the model has no experts", remedy="leave the section out, or set model.experts")
        return None
    if experts.num_experts % (settings.device_groups or 1):
        raise SettingsError(
            f"experts_training.device_groups={settings.device_groups}: {experts.num_experts} experts do not divide into so many groups"
        )
    own = Balancing.of(experts)
    decoder.balancing = Balancing(
        factor=own.factor if settings.balance_factor is None else settings.balance_factor,
        form=settings.balance_form or own.form,
        device_factor=settings.device_balance_factor,
        device_groups=settings.device_groups or 1,
        z_loss_factor=settings.z_loss_factor,
    )
    if settings.capacity_factor is not None:
        for mixture in mixtures(decoder):
            mixture.capacity_factor = settings.capacity_factor or None
    if not settings.bias_rate:
        return None
    if not all(mixture.router.weight.requires_grad for mixture in mixtures(decoder)):
        raise SettingsError(
            "experts_training.bias_rate: the routers are frozen, and what is saved of this training has no place for their biases",
            remedy="train the whole model, or use balance_factor",
        )
    if not experts.selection_bias:
        _add_biases(decoder, family)
    return SelectionBiases(decoder, settings.bias_rate)


def mixtures(decoder: Decoder) -> list[Mixture]:
    """The mixture layers, in order."""
    return [layer.feed_forward for layer in decoder.layers if isinstance(layer.feed_forward, Mixture)]


def _add_biases(decoder: Decoder, family: str) -> None:
    """Biases of 0, which change nothing yet; the family must be able to say that they are there."""
    assert decoder.config.experts is not None
    experts = replace(decoder.config.experts, selection_bias=True)
    config = replace(decoder.config, experts=experts)
    load_family(family).from_decoder_config(config)
    decoder.config = config
    for mixture in mixtures(decoder):
        weight = mixture.router.weight
        assert isinstance(weight, Tensor)
        mixture.config = experts
        mixture.router.register_buffer("bias", torch.zeros_like(weight[:, 0], requires_grad=False))


class SelectionBiases:
    """Moves the biases by a constant step against the sign of each expert's deviation from the mean load of its layer."""

    def __init__(self, decoder: Decoder, rate: float) -> None:
        self.rate = rate
        self._routers = [mixture.router for mixture in mixtures(decoder)]
        self.masters = torch.stack([_bias(router).float().cpu() for router in self._routers])  # [layers, experts]

    def __call__(self, gathered: Gathered) -> None:
        """After a step."""
        load = gathered.figures["expert_load"]
        missing = load.mean(-1, keepdim=True) - load
        self.masters += self.rate * missing.sign() * (missing.abs() > EVEN * gathered.target_weight)
        self._round()

    def _round(self) -> None:
        for router, master in zip(self._routers, self.masters, strict=True):
            _bias(router).copy_(master)

    def state(self) -> dict[str, Tensor]:
        """For the training state on disk."""
        return {"expert_biases": self.masters}

    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take over what ``state`` gave. Raises CheckpointError where it is missing or of another shape."""
        found = tensors.get("expert_biases")
        if found is None or found.shape != self.masters.shape:
            raise CheckpointError(
                f"training state: expert_biases is {'missing' if found is None else f'of shape {tuple(found.shape)}'}, "
                f"expected {tuple(self.masters.shape)}",
                remedy="the recipe's model or experts_training differs from the run that is resumed; give another output folder",
            )
        self.masters.copy_(found)
        self._round()


def _bias(router: torch.nn.Module) -> Tensor:
    bias = router.bias
    assert isinstance(bias, Tensor)
    return bias
