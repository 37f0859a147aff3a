"""CNN2: the patch classifier of CNN3 with two classes (comparison of Kumar et al. 2017)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Task
from models.cnn3 import CNN3, DEVIATIONS
from postproc.codecs.region_growing import ForegroundCodec


class CNN2(CNN3):
    """Outside or inside of a nucleus, for each px.

    Args:
        task: What the training data asks for; types are ignored.
        hidden: Units of each hidden layer.
        momentum: Of stochastic gradient descent.
        max_norm: Limit of the norm of each unit's weights; 0 = none.
    """

    card = MethodCard(
        name="cnn2",
        variants=(Variant("cnn2", "CNN2"),),
        summary="Patch classifier of 51 px into outside and inside; connected components.",
        paper=CNN3.card.paper,
        url=CNN3.card.url,
        recipe=CNN3.card.recipe,
        deviations=(
            *DEVIATIONS,
            "The network is CNN3's with two classes; the paper's text on what it calls CNN2 is not at hand.",
            "Touching nuclei are parted by 1 px of background in the target; nuclei are the components of the "
            "thresholded probability, with their holes filled.",
        ),
    )
    classes = 2

    def __init__(
        self, task: Task = UNTYPED, *, hidden: int = 1024, momentum: float = 0.6, max_norm: float = 1.0
    ) -> None:
        super().__init__(task, hidden=hidden, momentum=momentum, max_norm=max_norm)
        self.codecs = {"cnn2": ForegroundCodec()}
