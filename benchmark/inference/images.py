"""Predict the nuclei of user images with a trained model."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.forward.maps import predict_maps
from benchmark.forward.scaling import check_magnification, rescale, scale_factor
from benchmark.host.cores import usable_cores
from benchmark.host.outputs import check_outputs
from benchmark.host.progress import track
from benchmark.host.stages import stage
from benchmark.inference.datasets import FEW_IMAGES, PENDING_PER_WORKER
from benchmark.inference.decoding import decode_to_pictures, decoders, submit
from benchmark.inference.image_sources import FoundImages, count_pixels, find_images
from benchmark.inference.large import LARGE, WORKERS, predict_large
from benchmark.inference.slides import SAME, SlideOptions, predict_slide
from benchmark.inference.trained import Trained
from benchmark.results.known_models import find_model, model_digest
from benchmark.results.pictures import is_look
from benchmark.results.prediction_folder import (
    BY_REGION,
    COMPRESSED,
    LEDGER,
    SMALL,
    PredictionFolder,
    identity,
    results_in,
)
from benchmark.results.summary import SUMMARY, ImageSummary
from datamodules.reading.files import MAX_PIXELS
from datamodules.reading.magnification import MPP_AT_1X, differs, stated_by, stated_magnification
from datamodules.reading.rasters import image_raster
from datamodules.reading.slide_files import is_slide
from datamodules.reading.slides import Slide
from datamodules.reading.tissue import read_tissue
from postproc.errors import ConfigError, DataError, NucbenchError, unknown_name


def predict_images(
    run: Path,
    images: list[Path],
    out: Path,
    *,
    load: Callable[[Path], Trained],
    variant: str | None,
    magnification: float | None,
    progress: bool,
    tta: bool = False,
    compile: bool = False,
    again: bool = False,
    workers: int | None = None,
    slides: SlideOptions | None = None,
    repeat: str = "repeat them with --again",
) -> int:
    """Write label map, overlay and GeoJSON of each image, and a summary of all images (`SUMMARY`).

    Images of more than `benchmark.inference.large.LARGE` px are processed by region (`benchmark.inference.large`);
    their label map is a TIFF, and a CSV lists the nuclei. Of whole slides, only tissue is processed, and there is no
    label map (`benchmark.inference.slides`). Other images are decoded by workers while the network
    processes the next ones.

    An image that cannot be read or processed is reported and does not stop the others. Images with results in `out`
    from the same model and settings are skipped. Files that this function did not write are never replaced.

    Args:
        run: Run directory, model folder, or name of a model shipped with nucbench.
        images: Image files, folders of images, and patterns such as ``slides/*.tif``.
        out: Output folder.
        load: Loads `run`; called only if there are images to process.
        variant: Post-processing variant; None = the first of the run.
        magnification: Magnification of the images; None = the one stated by each file, else that of the training
            images.
        progress: Show progress bars.
        tta: Average maps over mirrored and rotated images, also if the model does not.
        compile: Compile the network with torch.compile.
        again: Also process finished images, and replace results of other images of the same name in `out`.
        workers: Number of decoding processes; 0 = decode in this process; None = one per usable core, at most
            `benchmark.inference.large.WORKERS`.
        slides: Options for whole slides.
        repeat: How the user repeats finished images, for the message about them.

    Returns:
        0 if all images are done, 1 otherwise.

    Raises:
        ConfigError: If two images have the same name, the variant is unknown, the magnification is invalid, or a file
            that is not a result would be replaced.
        BusyError: If another process is writing to `out`.
        DataError: If there are no images, or the model is damaged.
    """
    workers = min(WORKERS, usable_cores()) if workers is None else workers
    check_magnification(magnification)
    find_model(run)
    options = slides or SlideOptions()
    found = find_user_images(images, out)
    _check_tissue(options, found.images, out, magnification)
    how = {"model": model_digest(run), "variant": variant, "magnification": magnification, "tta": tta}
    how |= options.how()
    with PredictionFolder.hold(out) as folder:
        todo = [path for path in found.images if again or not folder.is_done(path, how)]
        for error in found.errors:
            _complain(error)
        if found.results:
            print(f"skipped {len(found.results)} files that are results of an earlier call: {_some(found.results)}")
        done = [path for path in found.images if path not in set(todo)]
        if done:
            print(f"{len(done)} of {len(found.images)} images are done already ({repeat}): {_some(done)}")
        failed = len(found.errors)
        if todo:
            with stage("loading the model"):
                trained = load(run)
            work = _Work(trained, folder, how, compile=compile, workers=min(workers, len(todo)), slides=options)
            work.claim(todo, again=again)
            failed += work.run(todo, progress)
        else:
            folder.claim({}, again=again)  # restores the summary if it was deleted
        _comment_on_nothing([folder.summary(path) for path in found.images if folder.is_done(path, how)])
    print(f"written to {out}")
    if failed:
        print(f"{failed} of {len(found.images) + len(found.errors)} images failed", file=sys.stderr)
    return 1 if failed else 0


def find_user_images(images: list[Path], out: Path) -> FoundImages:
    """Find the images and check that no result in `out` replaces one of them.

    Raises:
        ConfigError: If a result would replace an image, or two images have the same name.
        DataError: If there are no images.
    """
    known = functools.cache(results_in)
    found = find_images(images, lambda path: path.name in known(path.parent) or is_look(path), [Path(SUMMARY).stem])
    outputs = [out / SUMMARY, out / LEDGER]
    for path in found.images:
        large = is_slide(path, LARGE) or count_pixels(path) > LARGE
        endings = {*SMALL, *BY_REGION, f".geojson{COMPRESSED}"} if large else set(SMALL)
        outputs += [out / f"{path.stem}{ending}" for ending in sorted(endings)]
    check_outputs(outputs, found.images)
    return found


def _check_tissue(options: SlideOptions, images: Sequence[Path], out: Path, magnification: float | None) -> None:
    """Check that a tissue mask can be read, belongs to one slide, and is not a result.

    Raises:
        ConfigError: If it does not.
        DataError: If the mask or the slide cannot be read, or they have different proportions.
    """
    if options.tissue is None:
        return
    if not options.tissue.is_file():
        raise ConfigError(f"--tissue {options.tissue} does not exist; give an image in which tissue is not black")
    if not options.mask:
        raise ConfigError("give either --tissue or --no-tissue-mask, not both")
    if len(images) != 1 or not is_slide(images[0], LARGE):
        raise ConfigError(f"--tissue is the mask of one slide, but {len(images)} images are given; give one slide")
    check_outputs([out / f"{images[0].stem}{ending}" for ending in options.endings], [options.tissue])
    with Slide(images[0], magnification=magnification) as slide:
        read_tissue(options.tissue, (slide.size[1], slide.size[0]))


@dataclass
class _Work:
    """Prediction of images with a model.

    Attributes:
        trained: The model.
        folder: Output folder, locked.
        how: Settings that determine the results: model, variant, magnification and averaging over symmetries.
        compile: Compile the network.
        workers: Number of decoding processes.
        slides: Options for whole slides.
    """

    trained: Trained
    folder: PredictionFolder
    how: dict[str, Any]
    compile: bool
    workers: int
    slides: SlideOptions
    _failed: int = 0
    _pending: list[tuple[Path, dict[str, Any], Future[ImageSummary]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        params = self.trained.params
        self.key: str = self.how["variant"] or next(iter(params))
        if self.key not in params:
            raise unknown_name("variant", self.key, params)
        self.params = params[self.key]
        self.codec = self.trained.method.codecs[self.key]
        self.settings = self.trained.settings(tta=self.how["tta"], compile=self.compile)

    def claim(self, images: list[Path], *, again: bool) -> None:
        """Claim the names of all results."""
        plans = {path: [f"{path.stem}{ending}" for ending in self._endings(path)] for path in images}
        self.folder.claim(plans, again=again)

    def _endings(self, path: Path) -> tuple[str, ...]:
        if is_slide(path, LARGE):
            return self.slides.endings
        return BY_REGION if self._by_region(count_pixels(path)) else SMALL

    def run(self, images: list[Path], progress: bool) -> int:
        """Process all images and return the number of failures."""
        on_cpu = self.trained.method.device.type == "cpu"
        beside = len(images) >= (FEW_IMAGES if on_cpu else 2)
        with decoders(self.workers if beside else 0) as pool:
            try:
                large = any(self._endings(path) != SMALL for path in images)  # they have bars of their own
                for path in track(images, "predicting", progress and not large):
                    try:
                        self._submit(pool, path, progress)
                    except NucbenchError as error:
                        self._fail(path, error)
                    while len(self._pending) > PENDING_PER_WORKER * self.workers:
                        self._finish()
            except BaseException:
                while self._pending:  # record pending results without hiding the original error
                    with suppress(Exception):
                        self._finish()
                raise
            self._finish_all()
        return self._failed

    def _by_region(self, size: int) -> bool:
        return size > MAX_PIXELS or (size > LARGE and self.codec.surroundings is not None)

    def _submit(self, pool: Any, path: Path, progress: bool) -> None:
        method = self.trained.method
        try:
            read = identity(path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        about = {"image": path.name, "sha256": read["sha256"], **self.how, "precision": self.trained.precision}
        if is_slide(path, LARGE):
            self._finish_all()
            found = predict_slide(
                method, self.key, self.params, path, self.settings, self.folder.path, options=self.slides,
                trained=self.trained.magnification, given=self.how["magnification"], workers=self.workers, about=about,
                progress=progress,
            )  # fmt: skip
            self._note(path, read, found)
            return
        known, own = image_magnification(path, self.how["magnification"], self.trained.magnification)
        with closing(image_raster(path)) as image:
            if self._by_region(image.shape[0] * image.shape[1]):
                self._finish_all()
                work = method, self.key, self.params, image, self.settings, self.folder.path, path.stem
                factor = scale_factor(self.trained.magnification, own)
                found = predict_large(
                    *work, factor=factor, workers=self.workers, name=path.name, about=about, progress=progress
                )
                self._note(path, read, found)
                return
            with stage("reading images"):
                pixels = image.read(0, 0, *image.shape)
        scaled = rescale(pixels, self.trained.magnification, own)
        with stage("network"):
            maps = predict_maps(method, scaled, self.settings)
        mpp = MPP_AT_1X / known if known else None
        job = self.codec, self.params, method.task.types, self.folder.path / path.stem, mpp
        self._pending.append((path, read, submit(pool, decode_to_pictures, maps, pixels, path.name, *job)))

    def _finish_all(self) -> None:
        """Wait for all pending images, to keep the results in the order of the images."""
        while self._pending:
            self._finish()

    def _finish(self) -> None:
        """Wait for the first pending image."""
        path, read, future = self._pending.pop(0)
        try:
            with stage("waiting for decoding"):
                found = future.result()
            self._note(path, read, found)
        except NucbenchError as error:
            self._fail(path, error)

    def _note(self, path: Path, read: dict[str, Any], found: ImageSummary) -> None:
        self.folder.note(path, self.how, read, found)
        print(found.line(), flush=True)

    def _fail(self, path: Path, error: NucbenchError) -> None:
        self._failed += 1
        self.folder.release(path)
        _complain(error)


def image_magnification(path: Path, given: float | None, trained: float | None) -> tuple[float | None, float | None]:
    """Return the magnification given by the user or stated by the file, and the one to rescale from.

    The former is None if it is unknown, the latter if the image is not rescaled.

    The magnification of the file is printed if it contradicts the user, or if the image is rescaled. Ratios to the
    training images of up to `SAME` are differences between scanners, and the image is not rescaled.

    Args:
        path: The image.
        given: Magnification given by the user.
        trained: Magnification of the training images.

    Raises:
        DataError: If the file contradicts itself and the user has not given the magnification.
    """
    if given is not None:
        stated = stated_by(path)
        if differs(stated, given):
            print(f"{path.name}: the file states {stated:.3g}x; read as {given:.3g}x, as given")
        return given, given
    stated = stated_magnification(path)
    if not differs(stated, trained, SAME):
        return stated, None
    print(
        f"{path.name}: the file states {stated:.3g}x, rescaled to the model's {trained:.3g}x; override: --magnification"
    )
    return stated, stated


def _complain(error: NucbenchError) -> None:
    print(f"nucbench: error: {error}", file=sys.stderr, flush=True)


def _comment_on_nothing(found: list[ImageSummary]) -> None:
    if found and not any(each.nuclei for each in found):
        print(
            f"no nuclei in {len(found)} of {len(found)} images: is the magnification right? "
            "is it the stain of the training images? was the training long enough?",
            file=sys.stderr,
        )


def _some(paths: list[Path] | tuple[Path, ...], shown: int = 3) -> str:
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(path.name for path in paths[:shown]) + more


__all__ = ["find_user_images", "predict_images"]
