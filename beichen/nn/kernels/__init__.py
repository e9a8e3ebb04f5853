"""Fused CPU kernels in C++, compiled on first use; every one has a torch reference in ``nn`` that runs where they cannot."""

from beichen.nn.kernels.attention import rope_attention
from beichen.nn.kernels.build import Status, can_run, library, status, switched_off
from beichen.nn.kernels.cross_entropy import cross_entropy_rows, linear_cross_entropy, position_losses
from beichen.nn.kernels.decode import DecoderStep, LayerWeights, can_run_few_rows, few_row_linear, paged_attention
from beichen.nn.kernels.embedding import embedding
from beichen.nn.kernels.experts import can_run_experts, experts
from beichen.nn.kernels.feed_forward import swiglu
from beichen.nn.kernels.low_rank import FewRowUpdate, StepAdapter
from beichen.nn.kernels.norms import add_rms_norm, rms_norm
from beichen.nn.kernels.optimizer import adamw_step, can_step, muon_apply, muon_direction, round_stochastically, sum_of_squares
from beichen.nn.kernels.quantized import Codes, dequantized, few_row_quantized, nf4_codes
from beichen.nn.kernels.routing import can_run_router, choose_experts
from beichen.nn.kernels.threads import end_helpers

__all__ = [
    "Codes",
    "DecoderStep",
    "FewRowUpdate",
    "LayerWeights",
    "Status",
    "StepAdapter",
    "adamw_step",
    "add_rms_norm",
    "can_run",
    "can_run_experts",
    "can_run_few_rows",
    "can_run_router",
    "can_step",
    "choose_experts",
    "cross_entropy_rows",
    "dequantized",
    "embedding",
    "end_helpers",
    "experts",
    "few_row_linear",
    "few_row_quantized",
    "library",
    "linear_cross_entropy",
    "muon_apply",
    "muon_direction",
    "nf4_codes",
    "paged_attention",
    "position_losses",
    "rms_norm",
    "rope_attention",
    "round_stochastically",
    "status",
    "sum_of_squares",
    "swiglu",
    "switched_off",
]
