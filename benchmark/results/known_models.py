"""Find a trained model by what a user calls it: run directory, model folder, or a name in an index."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmark.host.files import file_hash
from benchmark.results.model_cache import obtain_model
from benchmark.results.model_folder import DESCRIPTION, is_model_folder, shipped_models
from benchmark.results.model_index import own_index
from postproc.errors import ConfigError, unknown_name


def find_model(source: Path) -> Path | None:
    """Return the model folder of a path or name; None for a run directory.

    Names are those of shipped models and of the index that ``NUCBENCH_MODELS`` names, whose models are downloaded on
    their first use.

    Raises:
        ConfigError: If `source` is none of these.
        DataError: If the index is malformed, or a model cannot be downloaded.
    """
    if is_model_folder(source):
        return source
    if (source / "spec.json").is_file():
        return None
    known = shipped_models()
    if str(source) in known:
        return known[str(source)]
    listed = {} if source.name != str(source) else own_index()
    if str(source) in listed:
        return obtain_model(listed[str(source)])
    if source.exists():
        raise ConfigError(
            f"{source} is neither a run directory (it has no spec.json) nor a model folder (it has no {DESCRIPTION})"
        )
    if source.name != str(source):
        raise ConfigError(
            f"{source} does not exist; give a run directory, a model folder, or the name of a model: "
            f"{', '.join(known)} (more: nucbench models)"
        )
    error = unknown_name("model", str(source), [*known, *listed])
    raise ConfigError(f"{error} Run directories and folders of exported models are accepted too.")


def model_digest(source: Path) -> str:
    """Return a digest of all that determines the predictions: weights, options and post-processing parameters.

    Args:
        source: Run directory, model folder, or name of a model.

    Raises:
        ConfigError: If `source` is none of the three.
    """
    folder = find_model(source)
    names = ("spec.json", "params.json", "checkpoints/final.pt")  # untrained methods have no weights
    files = [source / name for name in names] if folder is None else [folder / DESCRIPTION]  # it contains their sha256
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            digest.update(bytes.fromhex(file_hash(path)))
    return digest.hexdigest()


__all__ = ["find_model", "model_digest"]
