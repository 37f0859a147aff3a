"""CNN2: the patch classifier of CNN3 with two classes (comparison of Kumar et al. 2017)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Task
from models.cnn3 import CNN3, DEVIATIONS
from postproc.codecs.region_growing import ForegroundCodec


class CNN2(CNN3):
    """Classifier of each pixel: outside or inside of a nucleus.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        hidden: Units of each hidden layer.
        momentum: Momentum of SGD.
        max_norm: Maximum norm of the weights of each unit; 0 = unlimited.
    """

    card = MethodCard(
        name="cnn2",
        variants=(Variant("cnn2", "CNN2"),),
        summary="Classifies patches of 51 px as outside or inside; connected components.",
        paper=CNN3.card.paper,
        url=CNN3.card.url,
        recipe=CNN3.card.recipe,
        deviations=(
            *DEVIATIONS,
            "The network is CNN3's with two classes; the paper's description of CNN2 was unavailable to us.",
            "In the target, 1 px of background separates touching nuclei. Nuclei are the connected components of the "
            "thresholded probability with their holes filled.",
        ),
    )
    classes = 2

    def __init__(
        self, task: Task = UNTYPED, *, hidden: int = 1024, momentum: float = 0.6, max_norm: float = 1.0
    ) -> None:
        super().__init__(task, hidden=hidden, momentum=momentum, max_norm=max_norm)
        self.codecs = {"cnn2": ForegroundCodec()}
