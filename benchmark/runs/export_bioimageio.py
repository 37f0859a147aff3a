"""`nucbench export --format bioimageio`: a model of the BioImage Model Zoo, for ilastik, deepImageJ, QuPath and others.

The folder follows the model description 0.5 of bioimage.io (https://github.com/bioimage-io/spec-bioimage-io):
``rdf.yaml`` describes the TorchScript graph of `benchmark.runs.export_graph`, with a test image and its maps.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmark.host.files import file_hash, read_json
from benchmark.inference.trained import Trained
from benchmark.registry import DATASETS, dataset_class
from benchmark.results.known_models import find_model
from benchmark.results.model_folder import CARD, Description
from benchmark.results.pictures import write_png
from benchmark.runs.export import export
from benchmark.runs.export_graph import EXAMPLE, GRAPHS, INPUT, METADATA, TOLERANCE, Graph, check_target, export_graph
from benchmark.runs.trained import load_trained
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError
from postproc.windows import Geometry

RDF, README, COVER, TEST_INPUT = "rdf.yaml", "README.md", "cover.png", "test_image.npy"
FORMAT_VERSION = "0.5.3"
"""Version of the description: the oldest with all that is used."""
LICENCES = (
    "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-SA-4.0",
    "CC0-1.0", "GPL-3.0-only", "MIT",
)  # fmt: skip
"""SPDX identifiers that `--licence` may give; other texts are in the documentation only."""
COVER_SIDE = 256
"""Height of the cover in pixels; its width is twice that."""


def export_bioimageio(source: Path, to: Path, *, name: str, licence: str, note: str) -> Path:
    """Write a trained dense method as a model of bioimage.io.

    Args:
        source: Run directory, model folder or name of a model.
        to: Output folder; must be missing or empty.
        name: Name of the model; empty = name of the folder.
        licence: Licence of the weights; empty = that of the model, or of the training data.
        note: One sentence that describes the model; empty = method and training sets.

    Returns:
        The folder.

    Raises:
        ConfigError: If the folder is not empty, or the method has no graph; one line says why.
    """
    check_target(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as temporary:
        folder = Path(temporary) / to.name
        export_graph(source, folder, "torchscript", name=name, licence=licence, note=note)
        model = find_model(source)
        if model is None:
            model = export(source, Path(temporary) / "model", name=name or to.name, half=False, licence="", note="")
        about = Description.read(model)
        trained = load_trained(model)
        image = _test_image(trained.method.geometry)
        maps = _write_tensors(trained, image, folder)
        write_png(folder / COVER, _cover(image, next(iter(maps.values()))))
        licence = licence or about.licence
        content = _describe(trained, about, maps, folder, name=name or to.name, licence=licence, note=note)
        card = (model / CARD).read_text(encoding="utf-8") if (model / CARD).is_file() else ""
        (folder / README).write_text(_readme(content, card, about, licence), encoding="utf-8")
        content["documentation"] = _file(folder / README)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        (folder / RDF).write_text(text, encoding="utf-8")
        if to.exists():
            to.rmdir()
        shutil.move(folder, to)
    return to


def _smallest(geometry: Geometry) -> int:
    """Return the smallest side whose output is more than the border that tiles drop."""
    return geometry.valid_input(2 * (geometry.margin + geometry.context) + geometry.multiple)


def _test_image(geometry: Geometry) -> NDArray[np.uint8]:
    """Return a synthetic H&E image, uint8 (H, W, 3), with sides that differ."""
    height = geometry.valid_input(max(EXAMPLE + 2 * geometry.margin, _smallest(geometry)))
    width = geometry.valid_input(height + 1)
    return generate((height, width), np.random.default_rng(0), density=2e-3)[0]


def _write_tensors(trained: Trained, image: NDArray[np.uint8], folder: Path) -> dict[str, NDArray[np.float32]]:
    """Write the test image and the maps that torch computes for it, and compare those of the graph.

    Returns:
        Id of each map -> float32 (1, C, H, W).

    Raises:
        ConfigError: If the graph gives other maps.
    """
    graph = Graph(trained.method.cpu().float().eval()).eval()
    tensor = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    given = torch.from_numpy(tensor).float()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch call TorchScript deprecated
        loaded = torch.jit.load(str(folder / GRAPHS["torchscript"]))  # type: ignore[no-untyped-call]
        expected, found = graph(given), loaded(given)
    maps: dict[str, NDArray[np.float32]] = {}
    for name, own, other in zip(graph.names, expected, found, strict=True):
        if not torch.allclose(own, other, rtol=TOLERANCE, atol=TOLERANCE):
            raise ConfigError(f"{trained.method.card.name} cannot be exported: the map {name} of the graph differs")
        maps[tensor_id(name)] = own.numpy()
    if len(maps) < len(graph.names):
        raise ConfigError(f"the maps {', '.join(graph.names)} have too similar names for bioimage.io")
    np.save(folder / TEST_INPUT, tensor)
    for key, value in maps.items():
        np.save(folder / f"test_{key}.npy", value)
    return maps


def tensor_id(name: str) -> str:
    """Return the id of a map: lower case, at most 32 characters."""
    return re.sub(r"[^a-z0-9_]", "_", name.lower())[:32]


def _cover(image: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the test image next to the first channel of a map."""
    shown = values[0, 0] - values.min()
    grey = np.round(255 * shown / max(float(shown.max()), 1e-6)).astype(np.uint8)
    margin = (image.shape[0] - grey.shape[0]) // 2
    part = image[margin : margin + grey.shape[0], margin : margin + grey.shape[1]]
    side = min(grey.shape)
    parts = [each[:side, :side] for each in (part, np.repeat(grey[..., None], 3, axis=2))]
    size = (COVER_SIDE, COVER_SIDE)
    return np.hstack([np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.uint8) for each in parts])


def _file(path: Path) -> dict[str, str]:
    return {"source": path.name, "sha256": file_hash(path)}


def _describe(
    trained: Trained,
    about: Description,
    maps: dict[str, NDArray[np.float32]],
    folder: Path,
    *,
    name: str,
    licence: str,
    note: str,
) -> dict[str, Any]:
    """Return the content of ``rdf.yaml`` without the documentation."""
    card, sets = trained.method.card, ", ".join(about.trained_on)
    readable = re.sub(r"[^A-Za-z0-9_+\- ()]", "-", name)
    kind = "nuclei of the types " + ", ".join(about.types) if about.types else "nuclei"
    spdx = _spdx(licence)
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": (readable if len(readable) >= 5 else f"{readable} ({card.name})")[:128],
        "description": note or f"Maps of {kind} in histopathology images: {card.name}, trained on {sets}.",
        **({"license": spdx} if spdx else {}),
        "authors": [],
        "cite": _citations(trained, about),
        "tags": ["nuclei", "histopathology", "H&E", "2d", "instance-segmentation", "pytorch", "nucbench", card.name],
        "covers": [_file(folder / COVER)],
        "attachments": [_file(folder / METADATA)],
        "inputs": [_input(trained, folder)],
        "outputs": [_output(key, value, trained, folder) for key, value in maps.items()],
        "weights": {
            "torchscript": {
                **_file(folder / GRAPHS["torchscript"]),
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        },
        "config": {"nucbench": {**read_json(folder / METADATA), "name": name, "licence": licence}},
    }


def _spdx(licence: str) -> str:
    """Return the SPDX identifier of a licence, empty if it is none of `LICENCES`: ``CC BY 4.0`` is ``CC-BY-4.0``."""
    given = re.sub(r"\s+", "-", licence.strip()).lower()
    return next((each for each in LICENCES if each.lower() == given), "")


def _citations(trained: Trained, about: Description) -> list[dict[str, str]]:
    """Return the papers of the method and of the training sets."""
    card = trained.method.card
    found = {card.url: card.paper}
    for dataset in dict.fromkeys(name.partition(".")[0] for name in about.trained_on):
        if dataset in DATASETS:
            data = dataset_class(dataset).card
            found.setdefault(data.url, data.citation or data.title)
    doi = re.compile(r"https?://(?:dx\.)?doi\.org/(10\..+)")
    return [
        {"text": text} | ({"doi": match[1]} if (match := doi.fullmatch(url)) else {"url": url})
        for url, text in found.items()
        if url.startswith("http")
    ]


def _space(trained: Trained) -> dict[str, Any]:
    mpp = trained.method.task.mpp
    return {"unit": "micrometer", "scale": mpp} if mpp else {}


def _input(trained: Trained, folder: Path) -> dict[str, Any]:
    geometry = trained.method.geometry
    return {
        "id": INPUT,
        "description": "RGB image, 0 to 255; the graph standardises it.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["red", "green", "blue"]},
            *(
                {
                    "type": "space",
                    "id": axis,
                    "size": {"min": _smallest(geometry), "step": geometry.multiple},
                    **_space(trained),
                }
                for axis in "yx"
            ),
        ],
        "data": {"type": "uint8", "range": [0, 255]},
        "test_tensor": _file(folder / TEST_INPUT),
        "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}],
    }


def _output(key: str, value: NDArray[np.float32], trained: Trained, folder: Path) -> dict[str, Any]:
    geometry = trained.method.geometry
    halo = {"halo": geometry.context} if geometry.context else {}
    return {
        "id": key,
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [f"{key}{number}" for number in range(value.shape[1])]},
            *(
                {
                    "type": "space",
                    "id": axis,
                    "size": {"tensor_id": INPUT, "axis_id": axis, "offset": -2 * geometry.margin},
                    **_space(trained),
                    **halo,
                }
                for axis in "yx"
            ),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file(folder / f"test_{key}.npy"),
    }


def _readme(content: dict[str, Any], card: str, about: Description, licence: str) -> str:
    """Return the documentation: the card of the model, and what goes in and comes out."""
    rows = [f"| `{each['id']}` | {len(each['axes'][1]['channel_names'])} |" for each in content["outputs"]]
    size, values = content["inputs"][0]["axes"][2]["size"], about.parameters.items()
    return "\n".join(
        [
            f"# {content['name']}",
            "",
            content["description"],
            "",
            *card.replace("## Scores", "## Validation").splitlines()[1:],
            "",
            "## Input and outputs",
            "",
            f"The input is an RGB image, 0 to 255; height and width are {size['min']} px or more, in steps of "
            f"{size['step']} px. Standardisation is part of the graph.",
            f"The training images are at {about.magnification:g}x." if about.magnification else "",
            "",
            "| output | channels |",
            "| --- | --- |",
            *rows,
            "",
            "The outputs are maps, not nuclei. `nucbench` decodes them with these parameters:",
            "",
            *(f"- {key}: {', '.join(f'{name} = {value}' for name, value in each.items())}" for key, each in values),
            "",
            f"Licence of the weights: {licence}",
            "",
        ]
    )


__all__ = ["FORMAT_VERSION", "LICENCES", "RDF", "export_bioimageio", "tensor_id"]
