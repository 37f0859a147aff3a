"""`nucbench export`: write a model in one of the formats, and say where."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def write_export(
    run: Path,
    to: Path,
    format: Literal["folder", "onnx", "torchscript", "bioimageio"],
    *,
    name: str,
    half: bool,
    licence: str,
    note: str,
    archive: bool,
) -> None:
    """Write a model as a folder and, if wanted, as an archive too; print the files.

    Args:
        run: Run directory; except for format ``folder``, also the folder or name of a model.
        to: Output folder; must be missing or empty.
        format: Format of the folder.
        name: Name of the model; empty = name of the folder.
        half: Store kernels in float16 (format ``folder``).
        licence: Licence of the weights; empty = that of the model or of the training data.
        note: Sentence that describes the model.
        archive: Also write a zip next to the folder.

    Raises:
        ConfigError: If the folder or archive exists, or the model cannot be exported in this format.
    """
    from benchmark.runs.archive import check_archive, pack, write_archive

    if archive:
        check_archive(to, name)
    if format == "folder":
        from benchmark.runs.export import export

        folder = export(run, to, name=name, half=half, licence=licence, note=note)
        print(f"written to {folder}")
        if archive:
            index = write_archive(folder, note)
            print(f"written to {folder}.zip; an index with this model:\n\n{index}")
        print(f"next:    nucbench predict {folder} IMAGE...")
    elif format == "bioimageio":
        from benchmark.runs.export_bioimageio import RDF, export_bioimageio

        folder = export_bioimageio(run, to, name=name, licence=licence, note=note)
        print(f"written to {folder / RDF}")
        if archive:
            print(f"written to {pack(folder)}")
    else:
        from benchmark.runs.export_graph import GRAPHS, export_graph

        folder = export_graph(run, to, format, name=name, licence=licence, note=note)
        print(f"written to {folder / GRAPHS[format]}")


__all__ = ["write_export"]
