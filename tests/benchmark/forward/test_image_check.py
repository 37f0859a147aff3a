"""What an array must be to be an image, and how to make it one."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmark.forward.maps import check_image
from postproc.errors import DataError

WRONG = {
    "grey": np.full((7, 9), 5, np.uint8),
    "one channel": np.full((7, 9, 1), 5, np.uint8),
    "RGBA": np.full((7, 9, 4), 5, np.uint8),
    "channels first": np.full((3, 7, 9), 5, np.uint8),
    "RGBA, channels first": np.full((4, 7, 9), 5, np.uint8),
    "in [0, 1]": np.full((7, 9, 3), 5 / 255, np.float32),
    "16 bits": np.full((7, 9, 3), 5 * 257, np.uint16),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_remedy_of_the_message_works(name: str) -> None:
    image = WRONG[name]
    with pytest.raises(DataError) as caught:
        check_image(image)
    remedy = re.search(r"(?:for example|by) (.+)$", str(caught.value))
    assert remedy is not None
    made = eval(remedy[1], {"np": np, "image": image})
    check_image(made)
    assert made.shape == (7, 9, 3)
    assert (made == 5).all()


@pytest.mark.parametrize("shape", [(0, 9, 3), (7, 0, 3), (0, 0)])
def test_an_image_without_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="no pixel"):
        check_image(np.zeros(shape, np.uint8))
