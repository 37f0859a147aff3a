"""SC-CNN: spatially constrained detection and ensemble classification of nuclei (Sirinukunwattana et al. 2016)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Milestones, Phase, Recipe
from models.networks.sc_cnn import (
    PATCH,
    PatchNetwork,
    cut_patches,
    mean_likelihood,
    true_likelihood,
    window_likelihood,
)
from postproc.codecs.sc_cnn import WINDOW, SCCNNCodec, neighbours
from postproc.errors import ConfigError
from postproc.windows import Geometry

MARGIN = PATCH // 2 + WINDOW // 2
"""Cells around a cell that influence its likelihood, through the patches whose windows contain it."""
CROP = 91
"""Side of the training crops in cells; a crop contains 65 x 65 patches."""
MPP = 0.5
"""Microns per pixel of the networks' input: 20x, as in the paper. Cells are averages of pixels of finer images."""

MEAN, STD = (0.828, 0.704, 0.848), (0.160, 0.199, 0.131)
"""Mean and standard deviation of R, G and B over the 27 training images of CoNSeP."""
HAEMATOXYLIN = (1.48907, -0.16265, 0.51246)
"""Haematoxylin per optical density of R, G and B (natural logarithm): the first column of the inverse of the vectors
of Ruifrok and Johnston (2001) for haematoxylin, eosin and the cross product of both."""
HAEMATOXYLIN_MEAN, HAEMATOXYLIN_STD = 0.35, 0.45
"""Mean and standard deviation of haematoxylin over the same images."""

Places = tuple[Tensor, Tensor, Tensor]
"""Image, row and column of the upper left cell of K patches, int64 (K,) each."""


class SCCNN(NucleiMethod):
    """Two separate networks: one detects centres in patches, the other classifies patches around centres.

    Args:
        task: Types and pixel size of the training data; without types, only the detector is built.
        centres: Number of centres that the spatially constrained layer estimates in a patch (M).
        neighbourhood: Maximum distance in cells from a centre at which patches vote about its type.
        mpp: Microns per pixel of the input of the networks; finer images are averaged over cells of 2 x 2, 3 x 3, ...
            px to come closest to it.
        balanced: Draw equally many patches of each type in a batch for the classifier. If False, or if the loss of the
            run weights the types, types are drawn in proportion to their frequency.
        patches: Number of patches drawn from each crop for each network.
        hidden: Units of each hidden layer.
        weight_decay: L2 penalty.

    Raises:
        ConfigError: If an option is out of range.
    """

    card = MethodCard(
        name="sc-cnn",
        variants=(Variant("sc-cnn", "SC-CNN", ("SCCNN",)),),
        summary="Patch network with a spatially constrained layer detects centres; a second one votes on their types.",
        paper="Sirinukunwattana et al., Locality Sensitive Deep Learning for Detection and Classification of Nuclei in "
        "Routine Colon Cancer Histology Images, IEEE TMI 35(5), 2016",
        url="https://doi.org/10.1109/TMI.2016.2525803",
        recipe="Patches of 27 px at 20x; SGD with momentum 0.9, weight decay 5e-4, dropout 0.2.",
        deviations=(
            "The text of the paper was unavailable to us. Layers, window of 11 px, reach of 4 px, weighted loss, "
            "dropout, optimiser, rates and epochs are those of public reimplementations (github.com/AIMLab-UBC/SC-CNN "
            "for the detector, softmaxSCCNN of a thesis for the classifier), which agree on the parts that both "
            "contain. We could not check M = 2, balanced types, and the ensemble of the patches within 4 px with "
            "equal weights: the detector has M = 1, and the thesis an ensemble of 5 x 5 patches.",
            "The authors' own weights, as AIMLab-UBC and TIAToolbox describe them, belong to another network (31 px, "
            "three convolutions, haematoxylin in addition to RGB), which is not implemented here.",
            "The networks see 0.5 microns per pixel, the paper's 20x, at any magnification of the training images: "
            "those of CoNSeP (40x) are averaged over 2 x 2 px inside the method. Graham et al. 2019 do not say "
            "whether they did so; with mpp=0.25, patches are 27 px of CoNSeP.",
            "The detector sees haematoxylin, as in the paper, but by the fixed stain vectors of Ruifrok and Johnston "
            "instead of vectors estimated from each image.",
            "Weights start from He's distribution, since initial weights with a standard deviation of 0.01 hardly "
            "learn on images in units of 1; the norm of the gradient is limited to 5.",
            "The weight of the empty pixels of a window, the number of pixels with a likelihood divided by the number "
            "of those without, is computed over the batch instead of the whole training set.",
            "Both networks are trained side by side, each on 64 patches of each of 8 crops in a step. The detector's "
            "patches are anywhere; the classifier's are within 4 px of a centre, with equal frequency of the types of "
            "a batch. An epoch is 16 crops of each image. We do not know the paper's number of patches and batch "
            "size.",
            "Stains are perturbed (policy stain) instead of hue, saturation and value, and for both networks.",
            "The threshold of the likelihood and the distance of 3 px between maxima are our choices; the paper's "
            "threshold is empirical.",
        ),
        tasks=("detection", "classification"),
        needs="points",
    )
    small = {"hidden": 16, "patches": 24}
    recipe = Recipe(
        crop=CROP,
        phases=(
            Phase(batch_size=8, lr=1e-2, epochs=120, schedule=Milestones.of_epochs(120, ((60, 0.1), (100, 0.01)))),
        ),
        crops_per_image=16,
        augment="stain",
        gradient_clip=5.0,
    )
    mean = MEAN
    std = STD

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        centres: int = 2,
        neighbourhood: float = 4.0,
        mpp: float = MPP,
        balanced: bool = True,
        patches: int = 64,
        hidden: int = 512,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__(task)
        _check(centres=centres, neighbourhood=neighbourhood, mpp=mpp, patches=patches, hidden=hidden)
        self.factor = 1 if task.mpp is None else max(1, round(mpp / task.mpp))
        self.codecs = {"sc-cnn": SCCNNCodec(len(task.types), self.factor, neighbourhood)}
        margin = self.factor * MARGIN
        self.geometry = Geometry(margin=margin, multiple=self.factor, minimum=2 * margin + self.factor)
        self.recipe = dataclasses.replace(self.recipe, crop=self.factor * CROP)
        self.balanced, self.drawn, self.weight_decay = balanced, patches, weight_decay
        self.weighs_types = bool(task.types)
        self.detector = PatchNetwork(1, 3 * centres, hidden)
        self.classifier = PatchNetwork(3, len(task.types), hidden) if task.types else None
        self.register_buffer("disc", torch.from_numpy(neighbours(neighbourhood))[None, None], persistent=False)
        self.disc: Tensor

    # ---- whole images --------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs of both networks for every patch of prepared images (B, 3, H, W).

        Returns:
            ``centres`` (B, 3 M, h, w), logits of rows, columns and heights; with types also logits ``types``
            (B, T, h, w). h = H / factor - 26 is the number of patches.
        """
        cells = self._cells(images)
        outputs: Outputs = {"centres": self.detector(haematoxylin(cells))}
        if self.classifier is not None:
            outputs["types"] = self.classifier(cells)
        return outputs

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``likelihood`` (B, 1, H', W') and, with types, the ensemble's prediction ``types`` (B, T, H', W')."""
        maps = {"likelihood": mean_likelihood(outputs["centres"])}
        if "types" in outputs:
            maps["types"] = self._ensemble(outputs["types"].softmax(dim=1))
        return {name: self._pixels(value) for name, value in maps.items()}

    def _ensemble(self, types: Tensor) -> Tensor:
        """Average the predictions of patches (B, T, h, w) over the neighbourhood; return (B, T, h - 10, w - 10)."""
        cut = WINDOW // 2 - self.disc.shape[-1] // 2
        part = types[..., cut : types.shape[-2] - cut, cut : types.shape[-1] - cut].float()
        with torch.autocast(self.device.type, enabled=False):
            disc = (self.disc / self.disc.sum()).expand(part.shape[1], 1, -1, -1)
            return F.conv2d(part, disc, groups=part.shape[1])

    def _cells(self, images: Tensor) -> Tensor:
        return images if self.factor == 1 else F.avg_pool2d(images, self.factor)

    def _pixels(self, maps: Tensor) -> Tensor:
        return maps.repeat_interleave(self.factor, dim=-2).repeat_interleave(self.factor, dim=-1)

    # ---- training on patches -------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of patches drawn from a batch of crops; a validation batch always gives the same patches.

        Args:
            batch: ``image`` uint8 (B, 3, H, W) and the targets of `SCCNNCodec.encode`.
        """
        cells = self._cells(self.prepare(batch["image"]))
        size = (cells.shape[-2] - PATCH + 1, cells.shape[-1] - PATCH + 1)
        classes = batch["classes"][:, :: self.factor, :: self.factor]
        middle = PATCH // 2
        classes = classes[:, middle : middle + size[0], middle : middle + size[1]]
        with self._drawing():
            anywhere = draw_anywhere(batch["known"], size, self.drawn * len(cells))
            near = draw_near(classes, self.drawn * len(cells), balanced=self.balanced and self.type_weights is None)
        outputs = {"centres": self.detector.patches(cut_patches(haematoxylin(cells), anywhere))}
        centres = F.max_pool2d(batch["centres"][:, None], self.factor, ceil_mode=True)
        border = (PATCH - WINDOW) // 2
        targets: Batch = {"windows": cut_patches(centres[..., border:, border:], anywhere, WINDOW)[:, 0]}
        if self.classifier is not None:
            outputs["types"] = self.classifier.patches(cut_patches(cells, near))
            targets["classes"] = classes[near] - 1
        with torch.autocast(self.device.type, enabled=False):
            return self.loss({name: value.float() for name, value in outputs.items()}, targets)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of ``detection`` and, with types, of ``types``.

        Args:
            outputs: ``centres`` (K, 3 M) and ``types`` (L, T), logits of patches.
            batch: ``windows`` (K, 11, 11), 1 at centres in the windows of the patches; ``classes`` int64 (L,), 0..T-1.
        """
        truth = true_likelihood(batch["windows"])
        terms = {"detection": detection_error(window_likelihood(outputs["centres"]), truth)}
        if "types" in outputs:
            weights = None if self.type_weights is None else self.type_weights[1:].to(outputs["types"])
            each = F.cross_entropy(outputs["types"], batch["classes"], weight=weights, reduction="sum")
            terms["types"] = each / max(len(outputs["types"]), 1)
        return terms

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Draw the same patches in every validation, since its loss selects the checkpoint."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cuda, enabled=not self.training):
            if not self.training:
                torch.manual_seed(0)
            yield

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return SGD with momentum."""
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=self.weight_decay)


def haematoxylin(images: Tensor) -> Tensor:
    """Return the standardised haematoxylin (B, 1, H, W) of prepared images (B, 3, H, W)."""
    weights, mean, std = torch.tensor([HAEMATOXYLIN, MEAN, STD], device=images.device)[:, :, None, None]
    density = -(images.float() * std + mean).clamp(1 / 255, 1).log()
    amount = (density * weights).sum(dim=1, keepdim=True)
    standardised: Tensor = (amount - HAEMATOXYLIN_MEAN) / HAEMATOXYLIN_STD
    return standardised


def draw_anywhere(known: Tensor, size: tuple[int, int], count: int) -> Places:
    """Draw patches from the crops with annotated nuclei.

    Args:
        known: (B,), 1 if the nuclei of the crop are annotated, otherwise 0.
        size: Rows and columns of patches in a crop.
        count: Number of patches; 0 are drawn if no crop is annotated.
    """
    annotated = known.nonzero()[:, 0]
    count = count if len(annotated) else 0
    drawn = [torch.randint(max(limit, 1), (count,)).to(known.device) for limit in (len(annotated), *size)]
    return annotated[drawn[0]], drawn[1], drawn[2]


def draw_near(classes: Tensor, count: int, *, balanced: bool) -> Places:
    """Draw patches whose middle is close to a nucleus of known type, with replacement.

    Args:
        classes: int64 (B, h, w), type 1..T of the patch at each position, 0 = none.
        count: Number of patches; 0 are drawn if there are no types.
        balanced: Draw all types that occur with the same frequency.
    """
    image, row, column = classes.nonzero(as_tuple=True)
    if not len(image):
        return image, row, column
    kinds = classes[image, row, column]
    weights = 1 / torch.bincount(kinds)[kinds].float() if balanced else torch.ones_like(kinds, dtype=torch.float32)
    # inverse transform sampling: torch.multinomial accepts at most 2**24 entries and draws on the device
    bounds = weights.cpu().double().cumsum(0)
    drawn = torch.searchsorted(bounds, torch.rand(count, dtype=torch.float64) * bounds[-1])
    drawn = drawn.clamp(max=len(kinds) - 1).to(classes.device)
    return image[drawn], row[drawn], column[drawn]


def detection_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the weighted cross-entropy of windows, summed over pixels and averaged over windows.

    The weight of a pixel is its true likelihood plus epsilon. Epsilon is the number of pixels with a likelihood above
    0, divided by the number of the others.

    Args:
        predicted: (K, 11, 11) in [0, 1].
        truth: (K, 11, 11) in [0, 1].
    """
    nonzero = (truth > 0).sum()
    epsilon = nonzero / (truth.numel() - nonzero).clamp(min=1)
    # far from centres the likelihood is exactly 0; clamping bounds its logarithm
    each = F.binary_cross_entropy(predicted.clamp(1e-4, 1 - 1e-4), truth, reduction="none")
    total: Tensor = ((truth + epsilon) * each).sum()
    return total / max(len(truth), 1)


def _check(*, centres: int, neighbourhood: float, mpp: float, patches: int, hidden: int) -> None:
    """Raise an error for options out of range."""
    for name, value in (("centres", centres), ("patches", patches), ("hidden", hidden)):
        if value < 1:
            raise ConfigError(f"sc-cnn: {name}={value}; give at least 1")
    if not 0 <= neighbourhood < WINDOW // 2 + 1:
        raise ConfigError(f"sc-cnn: neighbourhood={neighbourhood:g}; give 0 (one patch) to {WINDOW // 2} px at 20x")
    if mpp <= 0:
        raise ConfigError(f"sc-cnn: mpp={mpp:g}; give microns per pixel above 0, for example 0.5 for 20x")
