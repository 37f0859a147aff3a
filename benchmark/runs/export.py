"""`nucbench export`: write a finished run as a model folder."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.host.files import read_json
from benchmark.metrics.pooling import summarise
from benchmark.results.model_folder import CARD, DESCRIPTION, WEIGHTS, Description, write_model
from benchmark.results.parent import find_parent
from benchmark.results.store import RunStore
from benchmark.results.trained_images import TRAINED_IMAGES
from benchmark.runs.trained import load_run
from postproc.errors import ConfigError

SHOWN = ("dice", "aji", "pq", "F_d", "f1")
"""Scores shown on a card, if available."""


def export(run: Path, to: Path, *, name: str, half: bool, licence: str, note: str) -> Path:
    """Write a run as a model folder, atomically.

    Args:
        run: Run directory.
        to: Output folder; must be missing or empty.
        name: Name of the model; empty = name of the folder.
        half: Store the kernels in float16: half the size. Biases and batch statistics stay float32.
        licence: Licence of the weights; empty = licence of the training data.
        note: Sentence for the card: intended use, or a warning.

    Returns:
        The folder.

    Raises:
        ConfigError: If the run is unfinished or trains nothing, or the folder is not empty.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} exists; existing files are never overwritten. Give another folder.")
    store = RunStore.open(run)
    method, params, record = load_run(store)
    if not method.card.trained:
        raise ConfigError(f"{method.card.name} has no weights to export, since it trains nothing")
    spec, (as_parent, _) = store.spec(), find_parent(str(store.path))
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as temporary:
        folder = Path(temporary) / to.name
        about = Description(
            name=name or to.name,
            method=spec.method,
            options=dict(spec.options),
            types=tuple(record["task"]["types"]),
            mpp=record["task"]["mpp"],
            magnification=record["magnification"],
            parameters={key: dataclasses.asdict(value) for key, value in params.items()},
            sha256="",
            trained_on=as_parent.trained_on,
            licence=licence or as_parent.licence,
            tta=spec.overrides.tta,
            parent=spec.parent,
        )
        description = write_model(folder, method, about, half=half)
        (folder / CARD).write_text(_card(description, store, record, folder, note), encoding="utf-8")
        if store.trained_images_file.exists():
            shutil.copyfile(store.trained_images_file, folder / TRAINED_IMAGES)
        if to.exists():
            to.rmdir()
        shutil.move(folder, to)
    return to


def _card(model: Description, store: RunStore, record: dict[str, Any], folder: Path, note: str) -> str:
    training, adopted, parent = record["training"], record.get("adopted"), record.get("parent")
    size = (folder / WEIGHTS).stat().st_size / 1e6
    lines = [
        f"# {model.name}",
        "",
        *([note, ""] if note else []),
        "For research. Not a medical device: do not base a diagnosis on it.",
        "",
        f"- method: {model.method}"
        + (f" ({', '.join(f'{k}={v}' for k, v in model.options.items())})" if model.options else ""),
        f"- protocol {record['protocol']}, seed {record['seed']}; trained on",
        *(f"  - {line}" for line in training_sets(record)),
        f"- images at {model.magnification:g}x; others are rescaled" if model.magnification else "- any magnification",
        f"- types: {', '.join(model.types) or 'none'}",
        f"- trained elsewhere: {adopted['file']}, sha256 {adopted['sha256']} ({record['note']})"
        if adopted
        else f"- training: {training['steps']} steps, {training['minutes']} minutes on {training['hardware']}, "
        f"{training['precision']}, initial weights: {training['weights']}",
        *([f"- fine-tuned from {parent['name']}, sha256 {parent['sha256']}"] if parent else []),
        f"- settings that differ from the recipe: {record['overrides'] or 'none'}",
        f"- {training['parameters']:,} parameters, {size:.1f} MB",
        f"- licence of the weights: {model.licence}",
        "",
        "## Scores",
        "",
        "Means over images, as printed by `nucbench run` with weights in float32.",
        "",
        *_scores(store),
        "",
    ]
    return "\n".join(lines)


def training_sets(record: dict[str, Any]) -> list[str]:
    """Return one line per training set of a record: name, images, nuclei and hash; the name alone if adopted."""
    if record.get("adopted"):
        return ["{dataset}.{split}".format(**record["train"])]
    return [
        f"{each['dataset']}.{each['split']}: {each['images']} images"
        + ("" if each["nuclei"] is None else f" with {each['nuclei']:,} nuclei")
        + f", sha256 {each['sha256']}"
        for each in (record["data"], *record.get("also", ()))
    ]


def _scores(store: RunStore) -> list[str]:
    rows: list[dict[str, str]] = []
    for file in sorted(store.path.glob("evaluations/*/*/evaluation.json")):
        evaluation = read_json(file)
        found = summarise(pd.read_csv(file.with_name("scores.csv")))
        seen = f" ({evaluation['seen']} of them trained on)" if evaluation["seen"] else ""
        row = {"set": f"{evaluation['dataset']}.{evaluation['split']}", "row": evaluation["title"]}
        row["images"] = f"{evaluation['images']}{seen}"
        types = [name for name in found if re.fullmatch(r"F_c_\d+", name)]
        rows.append(row | {name: f"{found[name]:.3f}" for name in (*SHOWN, *types) if name in found})
    if not rows:
        return ["None: the run was not evaluated."]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = [columns, ["---"] * len(columns), *([row.get(name, "") for name in columns] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in table]


__all__ = ["DESCRIPTION", "export", "training_sets"]
