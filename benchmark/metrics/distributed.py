"""The metrics as `torchmetrics.Metric`: sums over images that add up over processes (DDP).

They give the same figures as scoring stored predictions, for validation during training. Images are scored as
they come, one at a time on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from benchmark.metrics.assignment import gated_pairing, published_pairing
from benchmark.metrics.classification import classification_counts, classification_scores
from benchmark.metrics.contingency import contingency
from benchmark.metrics.detection import detection_counts, detection_scores
from benchmark.metrics.image import object_scores
from benchmark.metrics.instance import PanopticCounts, panoptic_counts, panoptic_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OBJECT = ("dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq")
_PANOPTIC = ("dq_pooled", "sq_pooled", "pq_pooled")


class ObjectMetrics(Metric):
    """Mean over images of dice, aji, aji_plus, dice2, dq, sq and pq, and pooled dq, sq and pq.

    Images without a nucleus on either side are left out of the means and counted as ``nan_images``.
    """

    full_state_update = False
    sums: Tensor
    panoptic: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(_OBJECT), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("panoptic", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def plot(self, val: Mapping[str, Tensor] | None = None, ax: Axes | None = None) -> tuple[Figure, Any]:
        """Plot the scores as points; counts of images are left out.

        Args:
            val: Output of `compute`; None = compute it now.
            ax: Axes to draw on; None = new ones.

        Returns:
            Figure and axes.
        """
        scores = {name: value for name, value in (val or self.compute()).items() if not name.endswith("images")}
        figure, axes = self._plot(scores, ax)
        return figure, axes

    def update(self, pred: Tensor | NDArray[Any], true: Tensor | NDArray[Any]) -> None:
        """Add one image, or a batch; tensors or arrays.

        Args:
            pred: Integer (H, W) or (B, H, W), 0 = background.
            true: Likewise.

        Raises:
            ValueError: If the shapes differ.
        """
        pred, true = torch.as_tensor(pred), torch.as_tensor(true)
        if pred.shape != true.shape:
            raise ValueError(f"the prediction is {tuple(pred.shape)}, the annotation {tuple(true.shape)}")
        height, width = pred.shape[-2:]
        for one, other in zip(
            true.reshape(-1, height, width), pred.reshape(-1, height, width), strict=True
        ):  # fmt: skip
            table = contingency(one.cpu().numpy(), other.cpu().numpy())
            if table.n_true + table.n_pred == 0:
                self.images[1] += 1
                continue
            scores = object_scores(table)
            self.sums += self.sums.new_tensor([scores[name] for name in _OBJECT])
            self.panoptic += self.panoptic.new_tensor(panoptic_counts(table))
            self.images[0] += 1

    def compute(self) -> dict[str, Tensor]:
        """Return each score as a float64 scalar."""
        counts = self.panoptic.tolist()
        pooled = panoptic_scores(PanopticCounts(int(counts[0]), int(counts[1]), int(counts[2]), counts[3]))
        scores = dict(zip(_OBJECT, self.sums / self.images[0], strict=True))
        scores |= {name: self.sums.new_tensor(value) for name, value in zip(_PANOPTIC, pooled, strict=True)}
        return scores | {"nan_images": self.images[1]}


class ClassificationMetrics(Metric):
    """F_d, accuracy, F_c_1 ... F_c_T and F_c from counts pooled over all images (HoVer-Net, IV-B).

    Args:
        types: Number of types T.
        radius: Px.
        gated: Pair within the radius only, instead of as published.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, types: int, radius: float = 12.0, *, gated: bool = False) -> None:
        super().__init__()
        self.types, self.radius = types, radius
        self._pair = gated_pairing if gated else published_pairing
        self.add_state("counts", torch.zeros(5 + 5 * types, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, pred: Tensor, pred_types: Tensor, true: Tensor, true_types: Tensor) -> None:
        """Add one image.

        Args:
            pred: (M, 2), predicted centres, px.
            pred_types: Integer (M,), 1..T.
            true: (N, 2), annotated centres, px.
            true_types: Integer (N,), 1..T, 0 = without a type.
        """
        pairs = self._pair(true.cpu().numpy(), pred.cpu().numpy(), self.radius)
        counts = classification_counts(true_types.cpu().numpy(), pred_types.cpu().numpy(), pairs, self.types)
        self.counts += self.counts.new_tensor(list(counts.values()))

    def compute(self) -> dict[str, Tensor]:
        """Return each score as a float64 scalar."""
        counts = dict(zip(_classification_names(self.types), self.counts.tolist(), strict=True))
        return {name: self.counts.new_tensor(score) for name, score in classification_scores(counts).items()}


class DetectionMetrics(Metric):
    """Precision, recall, F1 and the distance of the pairs, pooled over all images (Xing 2019, IV-C).

    Args:
        radius: Px.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, radius: float = 16.0) -> None:
        super().__init__()
        self.radius = radius
        self.add_state("counts", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, pred: Tensor, true: Tensor) -> None:
        """Add one image: predicted (M, 2) and annotated (N, 2) centres in px."""
        pairs = gated_pairing(true.cpu().numpy(), pred.cpu().numpy(), self.radius)
        self.counts += self.counts.new_tensor(list(detection_counts(len(true), len(pred), pairs).values()))

    def compute(self) -> dict[str, Tensor]:
        """Return each score as a float64 scalar."""
        names = ("n_true", "n_pred", "n_found", "n_distance_sum", "n_distance_sum2")
        counts = dict(zip(names, self.counts.tolist(), strict=True))
        return {name: self.counts.new_tensor(score) for name, score in detection_scores(counts).items()}


def _classification_names(types: int) -> Sequence[str]:
    """Names of the counts in the order in which `classification_counts` returns them."""
    names = ["n_tp_d", "n_fp_d", "n_fn_d", "n_correct", "n_wrong"]
    for t in range(1, types + 1):
        names += [f"n_{name}_{t}" for name in ("tp_c", "fp_c", "fn_c", "fp_d", "fn_d")]
    return names
