"""Find the nuclei in a user's own images with a finished run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

from benchmark.decoding import decode_to_pictures, decoders, submit
from benchmark.inference import InferenceSettings, predict_maps
from benchmark.large import LARGE, WORKERS, predict_large
from benchmark.model_folder import find_model
from benchmark.predict import FEW_IMAGES, PENDING_PER_WORKER
from benchmark.predict_summary import SUMMARY, ImageSummary, write_summary
from benchmark.progress import track
from benchmark.scaling import rescale, scale_factor
from benchmark.trained import load_trained
from datamodules.files import MAX_PIXELS, check_name
from datamodules.regions import image_regions
from postproc.errors import ConfigError, DataError, unknown_name


def predict_images(
    run: Path,
    images: list[Path],
    out: Path,
    *,
    variant: str | None,
    magnification: float | None,
    progress: bool,
    compile: bool = False,
    workers: int = WORKERS,
) -> None:
    """Write label map, overlay and GeoJSON of each image, and print and sum up what was found (`SUMMARY`).

    Images of more than `benchmark.large.LARGE` px are worked on by region (`benchmark.large`); the label map is then a
    TIFF, and a CSV lists the nuclei. The others are decoded by workers while the network sees the next ones.

    Args:
        run: Run directory, model folder, or name of a model that comes with nucbench.
        images: Image files.
        out: Folder to write.
        variant: Post-processing; None = the run's first.
        magnification: Of the images; None = that of the training images.
        progress: Show progress bars.
        compile: Compile the network with torch.compile.
        workers: Processes that decode; 0 = decode in this one.

    Raises:
        ConfigError: If two images have one name, the variant is unknown, or an image is too large for the method.
        DataError: If an image is missing, unreadable (those before it are written), or its name has control characters.
    """
    find_model(run)
    _check_images(images)
    trained = load_trained(run)
    method, params = trained.method, trained.params
    key = variant or next(iter(params))
    if key not in params:
        raise unknown_name("variant", key, params)
    factor = scale_factor(trained.magnification, magnification)
    settings = InferenceSettings(precision=trained.precision, compile=compile)
    beside = len(images) >= (FEW_IMAGES if method.device.type == "cpu" else 2)
    with decoders(min(workers, len(images)) if beside else 0) as pool, _summing(out) as note:
        pending: list[Future[ImageSummary]] = []
        try:
            for path in track(images, "predicting", progress):
                with closing(image_regions(path)) as image:
                    size = image.shape[0] * image.shape[1]
                    if size > MAX_PIXELS or (size > LARGE and method.codecs[key].surroundings is not None):
                        while pending:  # results come in the order of the images
                            note(pending.pop(0).result())
                        work = method, key, params[key], image, settings, out, path.stem
                        note(predict_large(*work, factor=factor, workers=workers, name=path.name))
                        continue
                    pixels = image.read(0, 0, *image.shape)
                maps = predict_maps(method, rescale(pixels, trained.magnification, magnification), settings)
                job = method.codecs[key], params[key], method.task.types, out / path.stem
                pending.append(submit(pool, decode_to_pictures, maps, pixels, path.name, *job))
                while len(pending) > PENDING_PER_WORKER * workers:
                    note(pending.pop(0).result())
        finally:  # of an error too: images before it are done
            while pending:
                note(pending.pop(0).result())
    print(f"written to {out}")


@contextmanager
def _summing(out: Path) -> Iterator[Callable[[ImageSummary], None]]:
    """Give a function that prints what was found in an image; a file sums up all, those before an error too."""
    found: list[ImageSummary] = []

    def note(image: ImageSummary) -> None:
        found.append(image)
        print(image.line(), flush=True)

    try:
        yield note
    finally:
        if found:
            write_summary(out / SUMMARY, found)


def _check_images(images: list[Path]) -> None:
    """Refuse images that are missing or would overwrite each other's results."""
    stems: dict[str, Path] = {Path(SUMMARY).stem: Path(SUMMARY)}
    for path in images:
        if not path.is_file():
            raise DataError(f"there is no image {path}")
        check_name(path)
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise ConfigError(f"{other} and {path} would write the same results; rename one")
