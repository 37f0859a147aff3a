"""Find the nuclei in a user's own images with a finished run."""

from __future__ import annotations

from pathlib import Path

from benchmark.inference import InferenceSettings, predict_maps, rescale
from benchmark.pictures import geojson, overlay, write_geojson, write_png
from benchmark.predict import decode
from benchmark.progress import track
from benchmark.run import load_run
from benchmark.store import RunStore
from datamodules.files import read_rgb, write_mat
from postproc.errors import ConfigError, DataError, unknown_name


def predict_images(
    run: Path, images: list[Path], out: Path, *, variant: str | None, magnification: float | None, progress: bool
) -> None:
    """Write label map, overlay and GeoJSON of each image, and print what was found.

    Args:
        run: Run directory.
        images: Image files.
        out: Folder to write.
        variant: Post-processing; None = the run's first.
        magnification: Of the images; None = that of the training images.
        progress: Show progress bars.

    Raises:
        ConfigError: If two images have one name, or the variant is unknown.
        DataError: If an image is missing or unreadable; those before it are written.
    """
    store = RunStore.open(run)
    _check_images(images)
    method, params, record = load_run(store)
    key = variant or next(iter(params))
    if key not in params:
        raise unknown_name("variant", key, params)
    trained = record["train"]["magnification"]
    settings = InferenceSettings(precision=store.spec().precision)
    for path in track(images, "predicting", progress):
        image = read_rgb(path)
        maps = predict_maps(method, rescale(image, trained, magnification), settings)
        found = decode(method.codecs[key], maps, params[key], (image.shape[0], image.shape[1]))
        if found.labels is not None:
            write_mat(out / f"{path.stem}.mat", found)
        write_png(out / f"{path.stem}.png", overlay(image, found))
        write_geojson(out / f"{path.stem}.geojson", geojson(found, method.task.types))
        print(f"{path.name}: {found.count} nuclei")
    print(f"written to {out}")


def _check_images(images: list[Path]) -> None:
    """Refuse images that are missing or would overwrite each other's results."""
    stems: dict[str, Path] = {}
    for path in images:
        if not path.is_file():
            raise DataError(f"there is no image {path}")
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise ConfigError(f"{other} and {path} would write the same results; rename one")
