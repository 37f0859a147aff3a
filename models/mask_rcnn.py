"""Mask R-CNN (He et al. 2017) as Naylor et al. 2018 and Graham et al. 2019 trained it for nuclei."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN as Detector
from torchvision.ops.poolers import initLevelMapper

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import ONE_TRAINING
from models.base.losses import cross_entropy
from models.base.memory_format import keep_format
from models.base.method import UNTYPED, Batch, Task, learnt_types
from models.base.momentum import MomentumMethod
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import (
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NONE,
    State,
    from_torchvision,
    initial_state,
    load_exactly,
    rename,
)
from postproc.codec import Maps, Targets, search_space
from postproc.codecs.masks import MaskCodec, MaskParams, MaskStitcher
from postproc.errors import ConfigError, DataError, unknown_name
from postproc.windows import Geometry, Stitcher

Backbone = Literal["resnet18", "resnet50", "resnet101"]

STRIDE = 32
"""Stride in pixels of the last stage of the backbone; inputs are padded to a multiple of it."""
STRIDES = (4, 8, 16, 32)
"""Strides in pixels of the pyramid levels from which regions are pooled."""
PATCH = 256 * 256
"""Area in pixels to which the limits below apply; the limits of a larger tile are proportionally higher."""
PROPOSALS = 500
"""Proposals per `PATCH` that the heads receive in inference; that area contains about 120 nuclei in Kumar's densest
images."""
DETECTIONS = 300
"""Detections stored per `PATCH`."""
CHUNK = 512
"""Regions that a head processes at once in inference; limits the memory of dense tiles."""
CLASS_LAYERS = ("rpn.head.", "roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
"""Layers whose shape depends on the number of classes or anchors."""


class MaskRCNN(MomentumMethod):
    """Region proposals on a feature pyramid; a box, a type and a mask of 28 x 28 cells for each.

    The two thresholds that the paper tunes (Naylor et al. 2018, table I) act in two places. DMC is applied to the
    stored detections (`postproc.codecs.masks.MaskParams.confidence`). It is not used in training, neither here nor in
    the paper's implementation, whose detection layer only runs in inference. NMST acts inside the network, in training
    and in inference, and is the option `nmst`. Detections are stored with almost no suppression, so that
    `MaskParams.overlap` can be tuned afterwards.

    Args:
        task: Types and pixel size of the training data.
        classify: Whether the box head predicts types; None = if the data has types.
        backbone: ``resnet101`` (the paper's), or a smaller one for computers without a GPU.
        weights: ``imagenet``, ``none``, or a file with the weights of the ResNet or of a whole torchvision Mask R-CNN
            with the same backbone (for example trained on COCO). Layers that depend on the number of classes or anchors
            stay random. With pretrained weights, the statistics of the batch normalisation are fixed, as in the paper's
            implementation.
        regions: Regions of each image that train the heads; they account for most of the cost of a training step.
        nmst: Intersection over union above which the proposal network drops the weaker of two proposals.
        anchor: Side in pixels of the smallest anchor; each pyramid level doubles it.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If an option is invalid, types are requested but the data has none, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="mask-rcnn",
        variants=(Variant("masks", "Mask-RCNN", ("Mask R-CNN",)),),
        summary="Region proposals on a ResNet-101 feature pyramid; a box, a type and a mask for each.",
        paper="He et al., Mask R-CNN, ICCV 2017",
        url="https://doi.org/10.1109/ICCV.2017.322",
        recipe="Naylor et al. 2018, VI-D: ResNet-101, 256 anchors and 256 regions per image; other settings as in the "
        "Matterport implementation. Graham et al. 2019, V-C: smaller anchors; VI: overlapping tiles, of which only "
        "non-boundary nuclei are kept.",
        deviations=(
            "The backbone starts from ImageNet instead of COCO: torchvision has COCO weights only for ResNet-50.",
            "Anchors of 8 to 181 px (one size and sqrt 2 times it on each level): neither paper gives sizes.",
            "Crops of 256 px at their original size, 16 of each image in an epoch: Matterport's default enlarges "
            "images to 1024 px, and neither paper gives the size it used.",
            ONE_TRAINING,
            "torchvision's losses, sampling and heads instead of Matterport's: the weight decay is not divided by the "
            "number of weights of a layer, box losses are means over all sampled regions, and a nucleus may be "
            "detected with two types, of which decoding keeps the more certain one.",
            "500 proposals and 300 detections per 256 x 256 px instead of 1000 and 100 per image, because tiles "
            "differ in size.",
            "The norm of the gradient over all weights is limited to 5; Matterport clips each tensor.",
        ),
        tasks=("segmentation", "classification"),
        pretrained="imagenet",
    )
    small = {"backbone": "resnet18", "weights": "none", "regions": 16}
    recipe = Recipe(
        crop=256,
        phases=(Phase(batch_size=4, lr=1e-2, epochs=80, schedule=Step(parts=4)),),
        crops_per_image=16,
        augment="hovernet",
        patience=10,
        gradient_clip=5.0,
    )
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    detector: Any  # torchvision has no types

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        classify: bool | None = None,
        backbone: Backbone = "resnet101",
        weights: str = IMAGENET,
        regions: int = 256,
        nmst: float = 0.5,
        anchor: float = 8.0,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(task)
        if backbone not in get_args(Backbone):
            raise unknown_name("backbone", backbone, get_args(Backbone))
        if not 0 < nmst <= 1:
            raise ConfigError(f"nmst={nmst}: give an intersection over union in (0, 1]; the paper tests 0.5 to 0.9")
        if regions < 1:
            raise ConfigError(f"regions={regions}: give at least 1; the paper uses 256")
        if anchor <= 0:
            raise ConfigError(f"anchor={anchor}: give a side above 0 px; 8 is suitable for nuclei at 40x")
        types = learnt_types(task, classify)
        self.weighs_types = bool(types)
        self.codecs = {"masks": MaskCodec(types)}
        # Tiles overlap by twice the context, so that one of them contains all of a nucleus of up to 128 px.
        self.geometry = Geometry(multiple=STRIDE, context=64, minimum=64)
        self.weight_decay = weight_decay
        self.keep_statistics = weights != NONE
        self.detector = _detector(backbone, 1 + max(1, types), regions, nmst, anchor)
        self._initialise(backbone, weights)

    def _initialise(self, backbone: str, weights: str) -> None:
        if weights == NONE:
            return
        state, origin = initial_state(weights, lambda: from_torchvision(backbone))
        state = rename(state, [(r"^detector\.", "")])
        if any(name.startswith("backbone.") for name in state):
            _load_detector(self.detector, state, origin)
        else:
            load_exactly(self.detector.backbone.body, rename(state, [], drop=["fc."]), origin)

    def train(self, mode: bool = True) -> MaskRCNN:
        """Set training or evaluation mode; the statistics of a pretrained backbone are never updated."""
        super().train(mode)
        if self.keep_statistics:
            for module in self.detector.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Outputs:
        """Return the feature pyramid, the dense part of the network.

        Args:
            images: Prepared images, float (B, 3, H, W) of any size; padded to a multiple of 32 px with zeros (the mean
                colour).

        Returns:
            Levels ``0`` to ``3`` and ``pool``, (B, 256, h, w), at strides of 4 to 64 px.
        """
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
        return dict(self.detector.backbone(padded))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the five losses; proposal network, pooling and heads run in float32."""
        features = self(self.prepare(batch["image"]))
        with torch.autocast(self.device.type, enabled=False):
            return self.loss({name: keep_format(value.float()) for name, value in features.items()}, batch)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of proposals (objectness, box) and of regions (type, box, mask).

        Args:
            outputs: The feature pyramid, float32.
            batch: ``image``; ``boxes``, ``labels`` and ``masks``, lists over the images (see `MaskCodec`).
        """
        size = (int(batch["image"].shape[-2]), int(batch["image"].shape[-1]))
        names = ("boxes", "labels", "masks")
        targets = [
            {name: value.to(self.device) for name, value in zip(names, values, strict=True)}
            for values in zip(*(batch[name] for name in names), strict=True)
        ]
        with self._heads(learning=True), torch.random.fork_rng(self._cuda(), enabled=not self.training):
            if not self.training:  # a loss that selects the checkpoint must use the same regions every time
                torch.manual_seed(0)
            images = _image_list(outputs, size)
            proposals, terms = self.detector.rpn(images, outputs, targets)
            with _watch(self.detector.roi_heads) as seen:
                _, more = self.detector.roi_heads(outputs, proposals, images.image_sizes, targets)
            if self.type_weights is not None:  # torchvision's loss has no class weights
                more["loss_classifier"] = cross_entropy(seen["logits"], seen["labels"], classes=self.type_weights)
        return {name.removeprefix("loss_"): value for name, value in (terms | more).items()}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return the probability that each anchor contains a nucleus, (B, anchors, h, w) on every level."""
        scores, _ = self.detector.rpn.head(list(outputs.values()))
        return {name: score.sigmoid() for name, score in zip(outputs, scores, strict=True)}

    def collate(self, items: list[Targets]) -> Batch:
        """Stack the images; boxes, labels and masks remain lists over the images."""
        batch: Batch = {name: [torch.from_numpy(item[name]) for item in items] for name in items[0]}
        return batch | {"image": torch.stack(batch["image"])}

    @torch.no_grad()
    def predict_batch(self, images: Tensor) -> list[Maps]:
        """Return the detections in each prepared tile (fields: see `postproc.codecs.masks.MaskCodec`)."""
        features = self(images)
        size = (int(images.shape[-2]), int(images.shape[-1]))
        with torch.autocast(self.device.type, enabled=False), self._heads(learning=False):
            return [
                self._detect({name: value[i : i + 1].float() for name, value in features.items()}, size)
                for i in range(len(images))
            ]

    def _detect(self, features: Outputs, size: tuple[int, int]) -> Maps:
        """Return the detections in a tile of (H, W) px, given its pyramid (1, 256, h, w)."""
        rpn, heads = self.detector.rpn, self.detector.roi_heads
        share = size[0] * size[1] / PATCH
        rpn._pre_nms_top_n["testing"] = math.ceil(2 * PROPOSALS * share)  # on each level
        rpn._post_nms_top_n["testing"] = math.ceil(PROPOSALS * share)
        heads.detections_per_img = math.ceil(DETECTIONS * share)
        proposals, _ = rpn(_image_list(features, size), features)
        parts = [
            heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [part], [size])))
            for part in proposals[0].split(CHUNK)
        ]
        logits, deltas = (torch.cat(values) for values in zip(*parts, strict=True))
        (boxes,), (scores,), (labels,) = heads.postprocess_detections(logits, deltas, proposals, [size])
        masks = []
        for part, kinds in zip(boxes.split(CHUNK), labels.split(CHUNK), strict=True):
            cells = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, [part], [size])))
            masks.append(cells[torch.arange(len(kinds), device=cells.device), kinds].sigmoid().half())
        found = {"boxes": boxes, "scores": scores, "labels": labels, "masks": torch.cat(masks)}
        maps: Maps = {name: value.cpu().numpy() for name, value in found.items()}
        return maps | {"shape": np.array(size, np.int64)}

    def stitcher(self, shape: tuple[int, int]) -> Stitcher:
        """Return a stitcher that takes each nucleus from a tile that contains all of it."""
        return MaskStitcher(shape)

    @contextmanager
    def _heads(self, *, learning: bool) -> Iterator[None]:
        """Make proposal network and heads return losses, or detections.

        In torchvision this depends on the mode of the module, but validation needs losses while the backbone is in
        evaluation mode.
        """
        parts = (self.detector.rpn, self.detector.roi_heads)
        modes = [part.training for part in parts]
        for part in parts:
            part.train(learning)
        try:
            yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.train(mode)

    def _cuda(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


def _detector(backbone: str, classes: int, regions: int, nmst: float, anchor: float) -> Any:
    """Build torchvision's Mask R-CNN with random weights; `classes` includes the background."""
    sizes = tuple((anchor * 2**level, anchor * 2 ** (level + 0.5)) for level in range(len(STRIDES) + 1))
    space = search_space(MaskParams)
    # All layers and the batch normalisation are trained: a random backbone needs its statistics.
    pyramid = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    detector = Detector(
        pyramid,
        num_classes=classes,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        rpn_batch_size_per_image=256,
        rpn_nms_thresh=nmst,
        box_batch_size_per_image=regions,
        box_positive_fraction=0.33,
        # Store all that decoding may request; this bound is exclusive, that of decoding is inclusive.
        box_score_thresh=min(space["confidence"]) - 1e-4,
        box_nms_thresh=max(space["overlap"]),
    )
    # Images are already prepared: torchvision's resizing and standardising are never called.
    detector.transform = nn.Identity()
    for pool in (detector.roi_heads.box_roi_pool, detector.roi_heads.mask_roi_pool):
        # torchvision infers these once from the unpadded size of the first image, wrongly if it is small.
        pool.scales = [1 / stride for stride in STRIDES]
        pool.map_levels = initLevelMapper(2, 5)
    return detector


@contextmanager
def _watch(heads: Any) -> Iterator[dict[str, Tensor]]:
    """Record the ``logits`` (N, K) of the regions that train the heads, and their ``labels`` (N,)."""
    seen: dict[str, Tensor] = {}
    select = heads.select_training_samples

    def note_labels(*arguments: Any) -> Any:
        found = select(*arguments)
        seen["labels"] = torch.cat(found[2])
        return found

    def note_logits(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        seen["logits"] = output[0]

    heads.select_training_samples = note_labels
    hook = heads.box_predictor.register_forward_hook(note_logits)
    try:
        yield seen
    finally:
        hook.remove()
        del heads.select_training_samples


def _image_list(features: Outputs, size: tuple[int, int]) -> ImageList:
    """Describe a batch for torchvision: its padded size, and the size (H, W) of the images in it."""
    finest = features["0"]
    padded = [side * STRIDES[0] for side in finest.shape[-2:]]
    return ImageList(finest.new_empty(1).expand(len(finest), 3, *padded), [size] * len(finest))


def _load_detector(detector: nn.Module, state: State, origin: str) -> None:
    """Load a whole Mask R-CNN, except the layers with another number of classes or anchors.

    Args:
        detector: Network that receives the weights.
        state: State of a torchvision Mask R-CNN; torchvision translates older names.
        origin: Source of the weights, for the message.

    Raises:
        DataError: If any other tensor is missing, unknown or of another shape.
    """
    expected = detector.state_dict()
    other = [name for name, value in state.items() if name in expected and value.shape != expected[name].shape]
    wrong = [name for name in other if not name.startswith(CLASS_LAYERS)]
    report = detector.load_state_dict({k: v for k, v in state.items() if k not in other}, strict=False)
    missing = [n for n in report.missing_keys if n not in other and not n.endswith("num_batches_tracked")]
    if wrong or missing or report.unexpected_keys:
        raise DataError(
            f"{origin}: the weights do not fit this Mask R-CNN: of another shape {wrong[:3]}, missing "
            f"{missing[:3]}, unknown {report.unexpected_keys[:3]}. Check the option `backbone`."
        )
