"""Targets of a batch, cropped to the output of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def crop_targets(batch: dict[str, Any], size: torch.Size | tuple[int, int]) -> dict[str, Any]:
    """Crop all dense targets of a batch to their centre, (h, w), the size of the outputs."""
    height, width = batch["image"].shape[-2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2

    def centre(value: Any) -> Any:
        if isinstance(value, Tensor) and value.shape[-2:] == (height, width):
            return value[..., top : top + size[0], left : left + size[1]]
        return value

    return {name: value if name == "image" else centre(value) for name, value in batch.items()}


__all__ = ["crop_targets"]
