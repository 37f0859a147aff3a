"""Commands that predict and score."""

from __future__ import annotations

from pathlib import Path

from benchmark.commands.common import filled


def predict(
    run: Path,
    images: list[Path],
    *,
    out: Path = Path("predictions"),
    variant: str | None = None,
    magnification: float | None = None,
    again: bool = False,
    compile: bool = False,
    progress: bool = True,
) -> int:
    """Find the nuclei in images with a trained model: label map, overlay and GeoJSON for QuPath.

    Each image NAME.EXT gives NAME.mat (inst_map, inst_type), NAME_overlay.png and NAME.geojson in --out. Images of
    more than 20 million px are worked on by region, a tiled TIFF of 20,000 x 20,000 px in less than 6 GiB of memory;
    they give NAME.tif (tiled label map, int32), NAME.csv (a row per nucleus), NAME.geojson and a shrunk
    NAME_overlay.png.

    Files that nucbench has not written are never replaced. Given again, the command leaves out images that are done
    already and adds further ones to summary.csv. An image that cannot be read does not stop the others; the exit status
    is then 1.

    summary.csv has a row per image: its nuclei, those of each type and, of a run trained on Ki67, the labelling index
    (immunopositive tumour nuclei in % of all tumour nuclei).

    Args:
        run: Directory of a run, for example runs/dist/kumar/paper-s0-1234abcd, the folder of an exported model, or the
            name of a model that comes with nucbench, for example default (see `nucbench models`).
        images: Image files (PNG, TIFF, JPEG, BMP), folders of such files, or patterns in quotes ("slides/*.tif").
        out: Folder to write.
        variant: Post-processing of the run to use; default: its first.
        magnification: Objective magnification of the images; they are rescaled to that of the training images and
            the nuclei mapped back. 1 to 200; default: that of the training images.
        again: Work on images that are done already as well.
        compile: Compile the network with torch.compile; pays for many images of one size.
        progress: Hide progress bars.
    """
    from benchmark.forward.scaling import check_magnification
    from benchmark.inference.image_sources import find_images
    from benchmark.results.model_folder import find_model

    check_magnification(magnification)
    find_model(run)
    find_images(images)  # wrong words are answered before torch is imported, which takes seconds
    from benchmark.inference.images import predict_images
    from benchmark.runs.trained import load_trained

    return predict_images(
        run,
        images,
        out,
        load=load_trained,
        variant=variant,
        magnification=magnification,
        progress=progress,
        compile=compile,
        again=again,
    )


def export(
    run: Path,
    *,
    to: Path,
    name: str = "",
    half: bool = False,
    licence: str = "",
    note: str = "",
) -> None:
    """Write a finished run as a model folder: weights, description and card, to be copied and used anywhere.

    Args:
        run: Directory of the run.
        to: Folder to write; existing files are never overwritten.
        name: Name of the model; default: that of the folder.
        half: Store kernels in float16: half the size, at a loss far below that of bfloat16.
        licence: Licence of the weights; default: that of the training data.
        note: Sentence at the top of the card.
    """
    from benchmark.runs.export import export as write

    folder = write(run, to, name=name, half=half, licence=licence, note=note)
    print(f"written to {folder}")
    print(f"next:    nucbench predict {folder} IMAGE...")


def models() -> None:
    """List the models that come with nucbench, ready for `nucbench predict`."""
    from benchmark.commands.listing import print_models

    print_models()


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
    .npz as runs store their predictions. What `nucbench predict` writes can be given as it is. The last row, all, holds
    means over images; classification columns come from counts pooled over the images.

    Args:
        truth: Folder of annotated label maps.
        predictions: Folder of predicted label maps.
        out: CSV to write; default: print a table only.
        radius: Distance within which a detection counts for F_d and F_c, px (12 at 40x, 6 at 20x).
        components: What a map is whose ids fall into many parts: true = a mask or map of classes, whose connected
            parts are the nuclei; false = a label map; default: a mask where one value leaves no doubt, else an error.
    """
    from benchmark.host.console import print_frame
    from benchmark.host.outputs import check_outputs
    from benchmark.results.scoring import score_folders
    from benchmark.results.store import write_scores
    from postproc.cells import shown_frame

    if out is not None:
        check_outputs([out], [path for folder in (truth, predictions) if folder.is_dir() for path in folder.iterdir()])
    scores = score_folders(truth, predictions, radius=radius, components=components)
    if out is not None:
        write_scores(out, shown_frame(scores))
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
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> None:
    """Score somebody else's label maps on a dataset, so that they become a row of the tables.

    Args:
        predictions: Folder of label maps, one per image, named as the dataset's images.
        dataset: Dataset the predictions belong to.
        method: Row name, for example CellProfiler.
        split: Split of the dataset.
        trained_on: Dataset the method was trained on; default: the same dataset.
        note: Where the predictions come from; shown below tables.
        components: What a map is whose ids fall into many parts: true = a mask or map of classes, whose connected
            parts are the nuclei; false = a label map; default: a mask where one value leaves no doubt, else an error.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.host.machine import Machine
    from benchmark.runs.foreign import evaluate_foreign
    from benchmark.runs.result import print_result

    machine = Machine(filled(data), filled(runs), progress=progress)
    print_result(
        evaluate_foreign(predictions, dataset, split, method, trained_on or dataset, note, machine, components)
    )
