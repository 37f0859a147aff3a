"""Network of DRAN: deep residual aggregation, at one scale and at three."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base.memory_format import centre_crop
from models.base.weights import IMAGENET, NONE, check_width, from_timm, initial_state
from models.networks.hovernet import FEATURES, TIMM_NAME, Encoder, load_resnet
from postproc.errors import ConfigError

SCALES = (0.5, 1.0, 2.0)
"""Scales of the image in the multiscale network."""
PATHS = (16, 8, 4)
"""Disjoint groups of channels in the decoders, deepest first."""


class DecoderUnit(nn.Module):
    """Decoder: valid convolutions in separate groups of channels (paths); the sides shrink by 6 px.

    Args:
        channels_in: Channels of the input; the output has half as many.
        paths: Number of groups.
    """

    def __init__(self, channels_in: int, paths: int) -> None:
        super().__init__()
        channels = channels_in // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, channels, 5, groups=paths, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, groups=paths, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels_in / 2, h - 6, w - 6)."""
        return self.layers(x)  # type: ignore[no-any-return]  # modules are untyped callables


class Expansion(nn.Module):
    """Expanding path: three decoders, each after adding the encoder's features; the resolution doubles in between.

    Args:
        features: Channels of the encoder's first convolution, 64 in the paper.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(32 * features, 16 * features, 2, stride=2)
        widths = (16 * features, 8 * features, 4 * features)
        self.decoders = nn.ModuleList(DecoderUnit(width, paths) for width, paths in zip(widths, PATHS, strict=True))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return (B, 2 * features, H - 48, W - 48), given the encoder's levels of an image of H x W px."""
        x = self.up(levels[3])
        for index, decoder in enumerate(self.decoders):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if index else x
            x = decoder(x + centre_crop(levels[2 - index], x.shape))
        return x  # type: ignore[no-any-return]


class DRANetwork(nn.Module):
    """Networks of the nuclei and of their boundaries (Vu et al. 2019, figures 1 to 3).

    Nuclei are segmented at one scale or at three. All scales share an encoder, and each has its own expanding path; a
    fourth, padded decoder aggregates the sum. Boundaries have a separate network, at one scale.

    Args:
        features: Channels of the first convolution, 64 in ResNet-50; all other widths are in proportion.
        multiscale: Whether nuclei are segmented at three scales.
    """

    def __init__(self, features: int = FEATURES, *, multiscale: bool = True) -> None:
        super().__init__()
        if features < 2 or features % 2:
            raise ConfigError(f"features={features}: must be even, for the paths of the decoders")
        self.scales = SCALES if multiscale else (1.0,)
        self.encoders = nn.ModuleDict({name: Encoder(features, padded=False) for name in ("object", "contour")})
        self.expansions = nn.ModuleList(Expansion(features) for _ in self.scales)
        self.classifiers = nn.ModuleList(nn.Conv2d(2 * features, 2, 1) for _ in self.scales)
        self.contour = nn.Sequential(Expansion(features), nn.Conv2d(2 * features, 2, 1))
        if multiscale:
            self.aggregate = nn.Sequential(
                nn.Conv2d(2 * features, 4 * features, 5, padding=2, bias=False),
                nn.BatchNorm2d(4 * features),
                nn.ReLU(inplace=True),
                nn.Conv2d(4 * features, 2, 1),
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of images (B, 3, H, W).

        Args:
            images: At one scale H and W are 6 more than multiples of 8; at three scales, 14 more than multiples of 16.

        Returns:
            ``object`` and ``contour``, (B, 2, h, w); at three scales also ``object_0.5``, ``object_1.0`` and
            ``object_2.0``, the logits of the single scales. h = H - 48 at one scale, H - 98 at three.
        """
        levels = [self.encoders["object"](resized(images, scale)) for scale in self.scales]
        found = [restored(path(x), scale) for path, x, scale in zip(self.expansions, levels, self.scales, strict=True)]
        size = found[0].shape
        found = [centre_crop(x, size) for x in found]
        boundary = self.contour(self.encoders["contour"](images))
        single = {
            f"object_{scale}": classify(x)
            for scale, classify, x in zip(self.scales, self.classifiers, found, strict=True)
        }
        if len(found) == 1:
            return {"object": single["object_1.0"], "contour": boundary}
        together = self.aggregate(torch.stack(found).sum(dim=0))
        return {"object": together, "contour": centre_crop(boundary, size), **single}


def resized(images: Tensor, scale: float) -> Tensor:
    """Resize images to one of `SCALES`, cropped to a size that the encoder accepts.

    The encoder accepts sides of 8 k + 6 px. Images of 16 k + 14 px fit unchanged. At scale 0.5, 1 px is first removed
    on each side; at scale 2, 3 px of the enlarged image.
    """
    if scale == 1:
        return images
    if scale < 1:
        return F.interpolate(images[..., 1:-1, 1:-1], scale_factor=scale, mode="bilinear", align_corners=False)
    return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)[..., 3:-3, 3:-3]


def restored(x: Tensor, scale: float) -> Tensor:
    """Return features of `resized` images at the scale of the original image, centred."""
    if scale == 1:
        return x
    if scale > 1:  # valid convolutions removed 27 px on each side; one more makes the number even
        x = x[..., 1:-1, 1:-1]
    return F.interpolate(x, scale_factor=1 / scale, mode="bilinear", align_corners=False)


def load_pretrained(network: DRANetwork, weights: str, features: int) -> None:
    """Load a pre-activated ResNet-50 into both encoders.

    Args:
        network: Network that receives the weights.
        weights: ``imagenet`` (timm), ``none`` for no change, or the path of a file with timm's names.
        features: Channels of the first convolution.

    Raises:
        ConfigError: If ImageNet weights do not fit `features` or are unavailable, or the file does not exist.
        DataError: If the file cannot be read or does not fit.
    """
    if weights == NONE:
        return
    if weights == IMAGENET:
        check_width(weights, features, FEATURES, "ResNet-50")
    state, origin = initial_state(weights, lambda: from_timm(TIMM_NAME))
    for encoder in network.encoders.values():
        assert isinstance(encoder, Encoder)
        load_resnet(encoder, state, origin)
