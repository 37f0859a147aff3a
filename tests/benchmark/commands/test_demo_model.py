"""The first part of the demo: a shipped model on a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data
from skimage.color import rgb2hed

from benchmark.commands.demo_model import predict_photograph, recoloured


def test_the_brown_stain_becomes_eosin() -> None:
    photograph = data.immunohistochemistry()
    image = recoloured(photograph)
    before, after = rgb2hed(photograph), rgb2hed(image)
    assert image.shape == photograph.shape
    assert image.dtype == np.uint8
    kept = before[..., 0] > 0.02
    assert np.corrcoef(before[..., 0][kept], after[..., 0][kept])[0, 1] > 0.9  # hematoxylin
    assert np.corrcoef(before[..., 2].ravel(), after[..., 1].ravel())[0, 1] > 0.8  # brown -> eosin
    assert after[..., 2].mean() < before[..., 2].mean() / 10


@pytest.mark.slow
def test_the_shipped_model_finds_nuclei_in_the_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = predict_photograph(tmp_path, progress=False)
    assert picture.is_file()
    count = int(capsys.readouterr().out.split("model default: ")[1].split()[0])
    assert 250 < count < 450  # about 340; a person counts more than 300
    assert predict_photograph(tmp_path, progress=False) == picture  # a finished prediction is kept
    repeated = capsys.readouterr().out
    assert f"model default: {count} nuclei" in repeated
    assert f"delete {tmp_path / 'predictions'} to repeat them" in repeated
    assert "--again" not in repeated  # `nucbench demo` has no such option
