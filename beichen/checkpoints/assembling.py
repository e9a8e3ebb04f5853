"""A decoder's tensors while they are filled, one published tensor after another, in whatever order the files hold them.

A tensor of ours is made when the first of its published ones comes, and put into the decoder when the last has; a linear layer or a head is
quantized then, so that memory holds what the decoder will hold and the few tensors that are not yet whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from beichen.errors import CheckpointError
from beichen.models.linear_names import linear_layers
from beichen.models.naming import NameTable, PublishedView
from beichen.nn import kernels
from beichen.nn.decoder import Decoder
from beichen.nn.linear_layer import LinearLayer
from beichen.nn.quantized import Kind, QuantizedMatrix, quantized
from beichen.util.memory import ask_for_huge_pages

HEAD: Kind = "int8"  # how a head is held where matrices are quantized: 4 bits would cost more than a layer's, being the last


class Assembly:
    """A decoder on the meta device that becomes a real one."""

    def __init__(
        self, decoder: Decoder, names: NameTable, layout: Mapping[str, PublishedView], *,
        bare: bool, dtype: torch.dtype, device: torch.device | str, quantize: Kind | None,
    ) -> None:  # fmt: skip
        """layout: the decoder's published tensors. bare: whether their names lack the optional prefix."""
        self.decoder, self._names, self._bare = decoder, names, bare
        self._dtype, self._device, self._quantize = dtype, device, quantize
        self._ours = {name: view.ours for name, view in layout.items()}
        self._missing: dict[str, set[str]] = {}
        for name, ours in self._ours.items():
            self._missing.setdefault(ours, set()).add(name)
        self._shapes = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
        self._linear = {f"{name}.weight": name for name in linear_layers(decoder)}
        self._open: dict[str, tuple[Tensor, dict[str, PublishedView]]] = {}

    def fill(self, name: str, published: Tensor) -> None:
        """Take up one published tensor."""
        ours = self._ours[name]
        if ours not in self._open:
            tensor = ask_for_huge_pages(torch.empty(self._shapes[ours], dtype=self._dtype, device=self._device))
            self._open[ours] = tensor, self._names.views({ours: tensor}, self.decoder.config, bare=self._bare)
        tensor, views = self._open[ours]
        views[name].fill(published)
        self._missing[ours].discard(name)
        if not self._missing[ours]:
            del self._open[ours]
            self._put(ours, tensor)

    def published(self, name: str) -> Tensor:
        """A tensor that has been filled, as it was published, of those that are never quantized."""
        ours = self._ours[name]
        return self._names.views({ours: self.decoder.get_parameter(ours).detach()}, self.decoder.config, bare=self._bare)[name].tensor()

    def _put(self, ours: str, tensor: Tensor) -> None:
        owner, _, what = ours.rpartition(".")
        module = self.decoder.get_submodule(owner)
        if what in module._buffers:
            module.register_buffer(what, tensor)
        else:
            module.register_parameter(what, nn.Parameter(tensor))
        if self._quantize is None:
            return
        try:
            if isinstance(module, LinearLayer) and ours in self._linear:
                self.decoder.set_submodule(owner, quantized(module, self._quantize))
            elif module is self.decoder.head and kernels.can_run(tensor):
                self.decoder.head = QuantizedMatrix(tensor, HEAD)
        except CheckpointError as fault:
            raise CheckpointError(f"{ours}: {fault.args[0]}", remedy=fault.remedy) from fault
