"""The patch network of SC-CNN, for patches and whole images, and its spatially constrained layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from postproc.codecs.sc_cnn import REACH, WINDOW

PATCH = 27
"""Side of a patch in pixels."""
CHANNELS, KERNELS = (36, 48), (4, 3)
"""Channels and kernel sides of the convolutions, each followed by 2 x 2 max-pooling."""
GRID = 5
"""Side of the features of a patch after the last pooling."""
STRIDE = 2 ** len(KERNELS)
"""Distance in pixels between the input features of the hidden layers when the network runs on a whole image."""
DROPOUT = 0.2
"""Dropout rate after both hidden layers."""
ROWS = 1 << 14
"""Patches per call of the hidden layers: the features of all patches of an image would not fit into memory."""


class PatchNetwork(nn.Module):
    """Two convolutions with max-pooling, two hidden layers and the output layer, for patches of 27 x 27 px.

    `patches` is the network as published. `forward` applies it around every pixel of an image, at little more than the
    cost of the hidden layers: poolings have stride 1, and each doubles the dilation of the layers after it.

    Args:
        inputs: Channels of the input.
        outputs: Number of outputs per patch.
        hidden: Units of each hidden layer.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 512) -> None:
        super().__init__()
        widths = (inputs, *CHANNELS)
        self.convolutions = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], k) for i, k in enumerate(KERNELS))
        self.hidden = nn.ModuleList([nn.Linear(CHANNELS[-1] * GRID**2, hidden), nn.Linear(hidden, hidden)])
        self.head = nn.Linear(hidden, outputs)
        for layer in (*self.convolutions, *self.hidden):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def patches(self, patches: Tensor) -> Tensor:
        """Return the outputs, (K, outputs), of patches (K, C, 27, 27)."""
        x = patches
        for convolution in self.convolutions:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self._classify(x.permute(0, 2, 3, 1).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of all patches, (B, outputs, H - 26, W - 26), of images (B, C, H, W)."""
        features = self._features(images)
        size = (len(images), images.shape[-2] - PATCH + 1, images.shape[-1] - PATCH + 1)
        offset = torch.arange(0, GRID * STRIDE, STRIDE, device=images.device)
        outputs = []
        every = torch.arange(size[0] * size[1] * size[2], device=images.device)
        for number in torch.split(every, ROWS):
            image, row, column = number // (size[1] * size[2]), number // size[2] % size[1], number % size[2]
            rows, columns = row[:, None, None] + offset[:, None], column[:, None, None] + offset
            outputs.append(self._classify(features[image[:, None, None], rows, columns].flatten(1)))
        return torch.cat(outputs).reshape(*size, -1).permute(0, 3, 1, 2)

    def _features(self, images: Tensor) -> Tensor:
        """Return the features before the hidden layers, (B, H - 10, W - 10, 48), of images (B, C, H, W)."""
        x = images
        for i, layer in enumerate(self.convolutions):
            assert isinstance(layer, nn.Conv2d)
            x = F.relu(F.conv2d(x, layer.weight, layer.bias, dilation=2**i))
            x = F.max_pool2d(x, 2, stride=1, dilation=2**i)
        return x.permute(0, 2, 3, 1).contiguous()

    def _classify(self, rows: Tensor) -> Tensor:
        """Return the outputs, (K, outputs), of the features of patches, (K, 25 * 48), ordered by pixel."""
        for layer in self.hidden:
            rows = F.dropout(F.relu(layer(rows)), DROPOUT, self.training)
        return self.head(rows)  # type: ignore[no-any-return]  # modules are untyped callables


def cut_patches(images: Tensor, places: tuple[Tensor, Tensor, Tensor], side: int = PATCH) -> Tensor:
    """Cut squares out of images.

    Args:
        images: (B, C, H, W).
        places: Image, row and column of the upper left pixel of each square, int64 (K,) each.
        side: Side of the squares in pixels.

    Returns:
        (K, C, side, side).
    """
    image, row, column = places
    return images.unfold(2, side, 1).unfold(3, side, 1)[image, :, row, column]


def split_parameters(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split the detector's outputs (K, 3 M, ...) into rows and columns in the window, and heights in [0, 1].

    Returns:
        Parameters v, u (in [0, 10], relative to the first row and column of the window) and h of the spatially
        constrained layer, each (M, K, ...).
    """
    rows, columns, heights = torch.unflatten(outputs.float(), 1, (3, -1)).sigmoid().movedim((1, 2), (0, 1)).unbind(0)
    return (WINDOW - 1) * rows, (WINDOW - 1) * columns, heights


def constrained(
    rows: Tensor, columns: Tensor, heights: Tensor, y: Tensor | int, x: Tensor | int, reach: float = REACH
) -> Tensor:
    """Return the likelihood that (y, x) is a centre: the spatially constrained layer.

    It is h / (1 + r² / 2) at a distance r of at most `reach` from the closest of the M estimated centres, otherwise 0.

    Args:
        rows: (M, K, ...), rows of the centres.
        columns: (M, K, ...), their columns.
        heights: (M, K, ...), their likelihoods.
        y: Rows of the positions; broadcast against (K, ...).
        x: Columns of the positions.
        reach: Distance beyond which the likelihood is 0.
    """
    squared, nearest = ((rows - y).square() + (columns - x).square()).min(dim=0, keepdim=True)
    height = heights.expand(heights.shape[0], *squared.shape[1:]).gather(0, nearest)
    return torch.where(squared <= reach**2, height / (1 + squared / 2), 0.0)[0]


def window_likelihood(outputs: Tensor) -> Tensor:
    """Return the likelihood in the window of each patch, (K, 11, 11), from the detector's outputs (K, 3 M)."""
    rows, columns, heights = (parameter[..., None, None] for parameter in split_parameters(outputs))
    offset = torch.arange(WINDOW, device=outputs.device)
    return constrained(rows, columns, heights, offset[:, None], offset)


def mean_likelihood(outputs: Tensor) -> Tensor:
    """Return the likelihood of each pixel, averaged over all windows that contain it.

    Args:
        outputs: Outputs of the detector for all patches, (B, 3 M, h, w).

    Returns:
        (B, 1, h - 10, w - 10), for the pixels that 121 windows contain; the first is the centre of the patch at (5, 5).
    """
    height, width = (side - WINDOW + 1 for side in outputs.shape[-2:])
    rows, columns, heights = split_parameters(outputs)
    total = torch.zeros((len(outputs), height, width), device=outputs.device)
    for y in range(WINDOW):
        top = WINDOW - 1 - y
        for x in range(WINDOW):
            left = WINDOW - 1 - x
            part = (..., slice(top, top + height), slice(left, left + width))
            total += constrained(rows[part], columns[part], heights[part], y, x)
    return total[:, None] / WINDOW**2


def true_likelihood(centres: Tensor, reach: float = REACH) -> Tensor:
    """Return the target of a window, (K, 11, 11): 1 / (1 + r² / 2) at distance r from the closest of its centres.

    Args:
        centres: (K, 11, 11), 1 at centres, otherwise 0.
        reach: Distance beyond which the likelihood is 0.
    """
    side = int(reach)
    padded = F.pad(centres, (side, side, side, side))
    likelihood = centres.clone()
    for y in range(-side, side + 1):
        for x in range(-side, side + 1):
            squared = y * y + x * x
            if squared <= reach**2:
                shifted = padded[:, side + y : side + y + WINDOW, side + x : side + x + WINDOW]
                likelihood = torch.maximum(likelihood, shifted / (1 + squared / 2))
    return likelihood
