"""Commands that predict and score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from benchmark.commands.common import AnyProtocol, Precision
from benchmark.host.machine import Machine
from postproc.errors import ConfigError


def predict(
    run: Path,
    images: list[Path],
    *,
    out: Path = Path("predictions"),
    variant: str | None = None,
    magnification: float | None = None,
    mpp: float | None = None,
    tissue: Path | None = None,
    tissue_mask: bool = True,
    gzip: bool = False,
    again: bool = False,
    tta: bool = False,
    compile: bool = False,
    progress: bool = True,
) -> int:
    """Find nuclei in images and whole slides with a trained model: label map, overlay and GeoJSON for QuPath.

    For each image NAME.EXT, the command writes NAME.mat (inst_map, inst_type), NAME_overlay.png and NAME.geojson to
    --out. Images of more than 20 million pixels are processed by region (a tiled TIFF of 20,000 x 20,000 px in less
    than 6 GiB of memory); their results are NAME.tif (tiled label map, int32), NAME.csv (one row per nucleus),
    NAME.geojson and a downscaled NAME_overlay.png.

    Whole slides are SVS, NDPI, SCN, OME-TIFF and pyramidal TIFF of more than 20 million pixels (pip install
    'nucbench[slides]'), and MRXS, VMS, VMU, BIF and svslide ('nucbench[openslide]'). Only tissue is computed. Results
    are NAME.geojson in pixels of the full resolution, NAME.csv (centroid, area, perimeter, type, confidence) and
    NAME_overlay.png: a thumbnail with the tissue and the density of nuclei. A large image or slide resumes after an
    interruption.

    Only files written by nucbench are replaced. When run again, the command skips finished images and adds new ones to
    summary.csv. If an image cannot be read, the others are still processed and the exit status is 1.

    summary.csv has one row per image: the number of nuclei, in total and per type, and, for runs trained on Ki67, the
    labelling index (immunopositive tumour nuclei in % of all tumour nuclei).

    Args:
        run: Run directory (for example runs/dist/kumar/paper-s0-1234abcd), folder of an exported model, or name of a
            model (for example default; see `nucbench models`).
        images: Image files (PNG, TIFF, JPEG, BMP), slides, folders of such files, or quoted patterns ("slides/*.svs").
        out: Output folder.
        variant: Post-processing variant of the run; default: the first.
        magnification: Objective magnification of the images, 1 to 200. Images are rescaled to the magnification of the
            training images and nuclei mapped back. Default: what each file states (Aperio, OME-TIFF, ImageJ or its
            resolution), otherwise the magnification of the training images; a slide must state it.
        mpp: Microns per pixel, instead of --magnification.
        tissue: Image of the tissue of one slide, of any size: black = not computed. Default: found by saturation.
        tissue_mask: Compute the whole slide.
        gzip: Write the GeoJSON of slides compressed, as NAME.geojson.gz; QuPath opens it.
        again: Process finished images again.
        tta: Average the network's maps over the eight mirrored and rotated versions of each image; usually a little
            more accurate, and eight times slower.
        compile: Compile the network with torch.compile; worthwhile for many images of one size.
        progress: Hide progress bars.
    """
    from benchmark.forward.scaling import given_magnification
    from benchmark.inference.image_sources import find_images
    from benchmark.results.known_models import find_model

    magnification = given_magnification(magnification, mpp)
    find_model(run)
    find_images(images)  # report wrong arguments before the import of torch, which takes seconds
    from benchmark.inference.images import predict_images
    from benchmark.inference.slides import SlideOptions
    from benchmark.runs.trained import load_trained

    return predict_images(
        run,
        images,
        out,
        load=load_trained,
        variant=variant,
        magnification=magnification,
        progress=progress,
        tta=tta,
        compile=compile,
        again=again,
        slides=SlideOptions(tissue_mask, tissue, gzip),
    )


def export(
    run: Path,
    *,
    to: Path,
    format: Literal["folder", "onnx", "torchscript", "bioimageio"] = "folder",
    name: str = "",
    half: bool = False,
    licence: str = "",
    note: str = "",
    archive: bool = False,
) -> None:
    """Export a finished run as a portable model folder with weights, description and card, or as a graph.

    A graph (--format onnx or torchscript) runs without nucbench. Its input are RGB values of 0 to 255, (batch, 3,
    height, width); its outputs are the maps of the method (probabilities, distances), not yet decoded into nuclei.
    Standardisation is part of the graph. metadata.json states the valid heights and widths, the outputs and the
    post-processing parameters.
    The graph is compared with torch before it is written. --format bioimageio adds rdf.yaml, the model description of
    bioimage.io, with a test image and its maps; --archive then gives the file to upload.

    Args:
        run: Run directory; for a graph, also the folder or name of a model.
        to: Output folder; existing files are never overwritten.
        format: folder: for nucbench. onnx, torchscript: the network as a graph, for dense methods in float32.
            bioimageio: a TorchScript graph as a model of bioimage.io.
        name: Name of the model; default: name of the folder.
        half: Store kernels in float16: half the size, with a rounding error far below that of bfloat16.
        licence: Licence of the weights; default: licence of the training data. bioimage.io needs an SPDX identifier,
            for example CC-BY-4.0.
        note: Sentence at the top of the card.
        archive: Also write the folder as FOLDER.zip; with --format folder, print an index of models with it (see
            `nucbench models`).
    """
    if half and format != "folder":
        raise ConfigError(f"--half applies to --format folder; a graph of --format {format} is in float32")
    if archive and format in ("onnx", "torchscript"):
        raise ConfigError(f"--archive applies to --format folder and bioimageio, not to {format}")
    from benchmark.commands.exporting import write_export

    write_export(run, to, format, name=name, half=half, licence=licence, note=note, archive=archive)


def adopt(
    method: str,
    weights: Path,
    *,
    trained_on: str,
    types: list[str] | None = None,
    magnification: float | None = None,
    mpp: float | None = None,
    evaluate: list[str] | None = None,
    options: dict[str, Any] | None = None,
    protocol: AnyProtocol = "external",
    precision: Precision = "auto",
    note: str = "",
    licence: str = "",
    machine: Annotated[Machine, ("data", "runs", "workers", "progress", "compile")],
) -> None:
    """Store weights that were trained elsewhere as a finished run; nothing is trained.

    The run can be used like any other: predict, export, publish, tables and report. Its record names the file, and
    tables list it as adopted weights. Accepted are the published PyTorch files of HoVer-Net (mode, width and number of
    types are read off the file), Lightning checkpoints of a method of this suite (with their options), and plain
    state_dict files of one (give its --options). Every tensor must have its counterpart. Run the same command with
    other sets in --evaluate to score the run on those too.

    Args:
        method: Method that the weights belong to (see `nucbench list methods`).
        weights: Weights file: .tar, .pth, .pt, .ckpt, .bin, .safetensors or .npz.
        trained_on: Dataset that the weights were trained on: NAME or NAME.SPLIT, of this suite or any other.
        types: Names of the nucleus types in the order of the file. If they are those of the training set, they are
            brought into its order. Default: the types of the training set.
        magnification: Objective magnification of the training images. Default: that of the training set, if it is one
            of this suite.
        mpp: Microns per pixel, instead of --magnification.
        evaluate: Sets to score, each DATASET.SPLIT, or DATASET for its test split. Default: none.
        options: Options of the method, for example --options.features 16; --options.classify false leaves out a branch
            for types.
        protocol: Protocol that the training followed (see README); external: another or unknown.
        precision: Floating-point precision of inference.
        note: Source of the weights; shown below tables.
        licence: Licence of the weights, for the card of `nucbench export`.
        machine: Where things are and how much of this machine to use.
    """
    from benchmark.forward.scaling import given_magnification

    magnification = given_magnification(magnification, mpp)
    from benchmark.registry import METHODS
    from benchmark.results.spec import Target
    from postproc.errors import ConfigError, unknown_name

    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if not weights.is_file():
        raise ConfigError(f"{weights} does not exist; give a file with the weights of {method}")
    targets = [Target.parse(text) for text in evaluate or []]
    from benchmark.runs.adopt import Request  # after the checks above, since importing torch takes seconds
    from benchmark.runs.adopt import adopt as store
    from benchmark.runs.result import print_result

    request = Request(
        method,
        weights,
        trained_on,
        options=options or {},
        types=tuple(types) if types else None,
        magnification=magnification,
        protocol=protocol,
        precision=precision,
        note=note,
        licence=licence,
    )
    print_result(store(request, targets, machine))


def models(
    names: list[str] | None = None,
    *,
    index: str | None = None,
    mirror: str | None = None,
    progress: bool = True,
) -> None:
    """List the models that commands accept by name: those included, and those of an index of your own.

    An index is a YAML file, or its address, that names models, their archives and hashes; `nucbench export --archive`
    writes such an archive and prints its entry. With NUCBENCH_MODELS set to the index, `predict`, `look`, `export` and
    `run --start-from` take its models by name. An archive is downloaded on the first use of its model, or with
    `nucbench models NAME`, compared with its SHA-256 and unpacked into NUCBENCH_CACHE (default: the folder of caches
    of the user); interrupted downloads resume.

    Args:
        names: Models to download now; default: only list.
        index: File or address of an index; default: NUCBENCH_MODELS.
        mirror: Address that serves the archives as MIRROR/NAME/FILE, instead of the addresses in the index.
        progress: Hide progress bars.
    """
    from benchmark.commands.model_list import print_models

    print_models(names or [], index, mirror, progress=progress)


def score(
    *,
    truth: Path,
    predictions: Path,
    out: Path | None = None,
    radius: float = 12.0,
    components: bool | None = None,
) -> None:
    """Score a folder of predicted label maps against a folder of annotated ones.

    Files are matched by name without extension: .mat (inst_map, optional inst_type and inst_id), .npy, .png, .tif, or
    .npz (predictions stored by runs). The output of `nucbench predict` can be used unchanged. The last row, all, holds
    means over images; classification columns are computed from counts pooled over images.

    Args:
        truth: Folder of annotated label maps.
        predictions: Folder of predicted label maps.
        out: Output CSV; default: only print a table.
        radius: Largest distance of a matched detection for F_d and F_c, in pixels (12 at 40x, 6 at 20x).
        components: How to read a map whose ids have many separate parts: true = as a mask or map of classes, whose
            connected components are the nuclei; false = as a label map. Default: as a mask if it has only one value,
            otherwise an error.
    """
    from benchmark.host.console import print_frame
    from benchmark.host.outputs import check_outputs
    from benchmark.results.scoring import score_folders
    from benchmark.results.store import write_scores

    if out is not None:
        check_outputs([out], [path for folder in (truth, predictions) if folder.is_dir() for path in folder.iterdir()])
        if out.suffix.lower() != ".csv":
            raise ConfigError(f"--out {out}: the table is a CSV file; give a name that ends in .csv")
    scores = score_folders(truth, predictions, radius=radius, components=components)
    if out is not None:
        write_scores(out, scores)
        print(f"{len(scores) - 1} images scored; written to {out}")
    print_frame(scores)


def evaluate(
    *,
    predictions: Path,
    dataset: str,
    method: str,
    split: str = "test",
    trained_on: str | None = None,
    note: str = "",
    components: bool | None = None,
    types: list[str] | None = None,
    machine: Annotated[Machine, ("data", "runs", "progress")],
) -> None:
    """Score external predictions on a dataset and store them as a row of the tables.

    Files are matched with images by name without extension. Label maps (.mat, .npy, .npz, .png, .tif) are read as by
    `nucbench score`. Outlines (.json, .geojson) may be GeoJSON of QuPath or CellViT, or JSON of HoVer-Net, TIAToolbox
    or CellViT; the content decides. Label images of StarDist, Cellpose and InstanSeg are label maps.

    Args:
        predictions: Folder with one file per image.
        dataset: Dataset the predictions belong to.
        method: Row name, for example CellProfiler.
        split: Split of the dataset.
        trained_on: Dataset the method was trained on: NAME or NAME.SPLIT, of this suite or any other; several are
            joined by +. Default: the same dataset.
        note: Source of the predictions; shown below tables.
        components: How to read a map whose ids have many separate parts: true = as a mask or map of classes, whose
            connected components are the nuclei; false = as a label map. Default: as a mask if it has only one value,
            otherwise an error.
        types: Counterparts of the types of outlines whose name or number is not that of the dataset: FOREIGN=TYPE, for
            example tumour=epithelial; FOREIGN= for none.
        machine: Where things are.
    """
    from benchmark.runs.foreign import evaluate_foreign
    from benchmark.runs.result import print_result

    print_result(
        evaluate_foreign(
            predictions, dataset, split, method, trained_on or dataset, note, machine, components, types or []
        )
    )
