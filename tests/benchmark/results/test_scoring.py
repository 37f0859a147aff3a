"""Folders of label maps against each other, through real files."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy.io import savemat

from benchmark.metrics.image import score_image
from benchmark.results.scoring import OBJECT_COLUMNS, find_label_maps, score_folders
from benchmark.results.store import write_instances
from datamodules.reading.files import read_instances
from postproc.errors import ConfigError, DataError, InputWarning
from postproc.instances import Instances


def write(folder, name, labels, types=None):
    folder.mkdir(exist_ok=True)
    path = folder / name
    if path.suffix == ".mat":
        arrays = {"inst_map": labels}
        if types is not None:
            arrays["inst_type"] = np.asarray(types)[:, None]
        savemat(path, arrays)
    elif path.suffix == ".npy":
        np.save(path, labels)
    elif path.suffix == ".png":
        Image.fromarray(labels.astype(np.uint16)).save(path)
    else:
        tifffile.imwrite(path, labels)


def example(shift=0, nuclei=3):
    labels = np.zeros((40, 60), np.int32)
    for k in range(nuclei):
        labels[5:15, 3 + 18 * k + shift : 13 + 18 * k + shift] = k + 1
    return labels


@pytest.fixture
def folders(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predictions"
    write(truth, "a.mat", example(), [1, 2, 2])
    write(truth, "b.mat", example(nuclei=2), [1, 3])
    write(predictions, "a.mat", example(2), [1, 1, 2])
    write(predictions, "b.mat", example(1, 2), [1, 3])
    return truth, predictions


def test_columns_rows_and_pooling(folders):
    table = score_folders(*folders)
    assert table.columns.tolist() == ["image", *OBJECT_COLUMNS, "F_d", "accuracy", "F_c_1", "F_c_2", "F_c_3"]
    assert table["image"].tolist() == ["a", "b", "all"]
    rows = table.set_index("image")
    expected = score_image(
        Instances((40, 60), example(), types=np.array([1, 2, 2])),
        Instances((40, 60), example(2), types=np.array([1, 1, 2])),
        radius=12,
    )
    assert rows.loc["a"].dropna().to_dict() == pytest.approx({c: expected[c] for c in rows.columns if c in expected})
    assert math.isnan(rows.loc["a", "F_c_3"])
    assert rows.loc["all", "pq"] == pytest.approx(rows.loc[["a", "b"], "pq"].mean())
    assert rows.loc["all", "accuracy"] == pytest.approx(4 / 5)  # pooled; the mean would be 5/6
    assert rows.loc["all", "F_c_2"] == pytest.approx(2 / (2 + 2))


def test_types_fix_the_columns_and_the_radius_the_detection(folders):
    table = score_folders(*folders, types=5, radius=1.5)
    assert table.columns.tolist()[-5:] == [f"F_c_{t}" for t in range(1, 6)]
    assert table.set_index("image")["F_d"].tolist() == pytest.approx([0.0, 1.0, 4 / 10])
    for bad in ({"types": 0}, {"radius": -1.0}, {"radius": math.nan}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            score_folders(*folders, **bad)


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".png", ".tif", ".tiff"])
def test_every_format_without_types(tmp_path, suffix):
    write(tmp_path / "t", f"x.y{suffix}", example() * 70)  # gaps in the ids, a dot in the name
    write(tmp_path / "p", "x.y.npy", example(2).astype(np.int64) * 100_000)
    table = score_folders(tmp_path / "t", tmp_path / "p")
    assert table.columns.tolist() == ["image", *OBJECT_COLUMNS]
    assert table["image"].tolist() == ["x.y", "all"]
    assert table["pq"].tolist() == pytest.approx([80 / 120] * 2)


def test_empty_maps(tmp_path):
    for name, true, pred in (("both", 0, 0), ("no prediction", 2, 0), ("no truth", 0, 2), ("perfect", 2, 2)):
        write(tmp_path / "t", f"{name}.npy", example(nuclei=true))
        write(tmp_path / "p", f"{name}.npy", example(nuclei=pred))
    rows = score_folders(tmp_path / "t", tmp_path / "p").set_index("image")
    assert rows.loc["both"].isna().all()
    assert (rows.loc[["no prediction", "no truth"]] == 0).all(axis=None)
    assert (rows.loc["perfect"] == 1).all()
    assert rows.loc["all"].tolist() == pytest.approx([1 / 3] * 7)


def test_a_missing_prediction_is_named(folders):
    (folders[1] / "b.mat").unlink()
    with pytest.raises(DataError, match=r"predictions: no prediction for 'b' \(of 2 images"):
        score_folders(*folders)


def test_a_misshapen_prediction_is_named(folders):
    write(folders[1], "b.mat", example()[:30])
    with pytest.raises(DataError, match=r"b\.mat: 30 x 60 px .* has 40 x 60 px"):
        score_folders(*folders)


def test_two_files_of_one_name_are_an_error(folders):
    write(folders[1], "a.npy", example())
    with pytest.raises(DataError, match=r"a\.npy and a\.mat both stand for image 'a'"):
        score_folders(*folders)


def test_extra_predictions_are_named_in_a_warning(folders):
    write(folders[1], "c.npy", example())
    with pytest.warns(UserWarning, match=r"not scored.*'c'"):
        table = score_folders(*folders)
    assert table["image"].tolist() == ["a", "b", "all"]


def test_folders_without_label_maps(tmp_path, folders):
    with pytest.raises(ConfigError, match="absent: folder not found"):
        score_folders(tmp_path / "absent", folders[1])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("nothing")
    (tmp_path / "notes" / ".hidden.png").write_bytes(b"")
    with pytest.raises(DataError, match="notes: no label map"):
        score_folders(folders[0], tmp_path / "notes")
    assert list(find_label_maps(folders[0])) == ["a", "b"]


def test_a_file_with_centres_only_is_refused(folders):
    savemat(
        folders[1] / "a.mat",
        {"inst_centroid": np.ones((2, 2)), "inst_type": np.ones((2, 1)), "image_shape": np.array([[40, 60]])},
    )
    with pytest.raises(DataError, match=r"a\.mat"):
        score_folders(*folders)


@pytest.mark.real_data
@pytest.mark.parametrize("suffix", [".mat", ".npy", ".png"])
def test_golden_figures_through_files(golden_root, tmp_path, suffix):
    figures = json.loads((golden_root / "expected.json").read_text())
    for name in figures["instance"]:
        stored = np.load(golden_root / f"instance_{name}.npz")
        write(tmp_path / "t", name + suffix, stored["true"])
        write(tmp_path / "p", name + suffix, stored["pred"])
    rows = score_folders(tmp_path / "t", tmp_path / "p").set_index("image")
    for name, expected in figures["instance"].items():
        wanted = {c: expected[c] for c in OBJECT_COLUMNS}
        assert rows.loc[name].to_dict() == pytest.approx(wanted, abs=1e-6), name
    mean = np.mean([expected["pq"] for expected in figures["instance"].values()])
    assert rows.loc["all", "pq"] == pytest.approx(mean, abs=1e-6)


@pytest.mark.real_data
def test_golden_classification_through_files(golden_root, tmp_path):
    expected = json.loads((golden_root / "expected.json").read_text())["classification"]
    for name in expected["images"]:
        stored = np.load(golden_root / f"instance_{name}.npz")
        write(tmp_path / "t", f"{name}.mat", stored["true"], stored["true_types"])
        write(tmp_path / "p", f"{name}.mat", stored["pred"], stored["pred_types"])
    last = score_folders(tmp_path / "t", tmp_path / "p", radius=expected["radius_px"]).iloc[-1]
    columns = ["F_d", "accuracy", "F_c_1", "F_c_2", "F_c_3", "F_c_4"]
    assert last[columns].to_dict() == pytest.approx({c: expected[c] for c in columns}, abs=1e-12)


def test_predictions_of_a_run_are_scored_as_they_lie(folders):
    truth, predictions = folders
    expected = score_folders(truth, predictions)
    for path in list(predictions.iterdir()):
        write_instances(path.with_suffix(".npz"), read_instances(path))
        write_instances(path.with_name(f"{path.stem}.candidates.npz"), read_instances(path))
        path.unlink()
    pd.testing.assert_frame_equal(score_folders(truth, predictions), expected)


def test_masks_score_as_their_components_and_types_on_one_side_are_named(tmp_path):
    write(tmp_path / "t", "a.mat", example(nuclei=3), [1, 2, 3])
    for name, array in (("a.png", (example(nuclei=3) > 0) * 255),):
        (tmp_path / "p").mkdir()
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / "p" / name)
    with pytest.warns(InputWarning) as told:
        table = score_folders(tmp_path / "t", tmp_path / "p")
    assert ["is a mask" in str(told[0].message), "but the prediction does not" in str(told[1].message)] == [True, True]
    assert table["pq"].tolist() == [1.0, 1.0]
    with pytest.warns(InputWarning, match="has types"):
        taken = score_folders(tmp_path / "t", tmp_path / "p", components=False)
    assert taken["pq"].tolist() == [0.0, 0.0]
