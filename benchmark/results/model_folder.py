"""Model folders: a trained method in a few files that can be copied anywhere, and the models shipped with nucbench.

``weights.safetensors`` holds the weights, ``model.yaml`` everything needed to build the method and decode its maps, and
``card.md`` the training data and scores. ``trained_images.json`` holds hashes of the training images, so that they are
recognised among test images.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from pydantic import ConfigDict

from benchmark.host.files import file_hash
from benchmark.registry import METHODS
from datamodules.reading.plain_files import read_yaml
from datamodules.reading.schema import STRICT, Flag, Name, Positive, Text, check
from postproc.errors import DataError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from models.base.method import NucleiMethod

WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.yaml", "card.md"
FORMAT = 1
"""Version of the files in a model folder."""
SHIPPED = Path(__file__).resolve().parents[2] / "models" / "published"
"""Folder of the models shipped with nucbench, one subfolder per model."""


@dataclass(frozen=True)
class Description:
    """Content of ``model.yaml``.

    Attributes:
        name: Name of the model.
        method: Registry name of the method.
        options: Constructor arguments of the method, without those that name initial weights.
        types: Names of the nucleus types 1..T.
        mpp: Microns per pixel of the training images; None if unknown.
        magnification: Magnification of the training images; None if unknown.
        parameters: Post-processing parameters of each variant.
        sha256: SHA-256 of the weights file; empty until they are written.
        trained_on: Training sets, each ``dataset.split``.
        licence: Licence of the weights.
        tta: Average maps over mirrored and rotated images.
        parent: Name and hash of the model that the training started from; empty = none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Name
    method: Name
    options: dict[Name, Any]
    types: tuple[Name, ...]
    mpp: Positive | None
    magnification: Positive | None
    parameters: dict[Name, dict[Name, Any]]
    sha256: Name
    trained_on: tuple[Name, ...]
    licence: Name
    tta: Flag = False
    parent: Text = ""

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read the description in a model folder.

        Raises:
            DataError: If it cannot be read, has another version, or a key is missing, unknown or of a wrong type.
        """
        path = folder / DESCRIPTION
        content = read_yaml(path, DataError)
        if not isinstance(content, dict):
            raise DataError(f"{path} does not contain a mapping; write it with `nucbench export`")
        if content.pop("format", None) != FORMAT:
            raise DataError(f"{path} was written by another version of nucbench; export the run again")
        found = check(cls, content, str(path), DataError)
        if found.method not in METHODS:
            raise unknown_name(f"method in {path}", found.method, METHODS)
        return found

    def write(self, folder: Path) -> None:
        """Write the description into a model folder."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        content |= {"types": list(self.types), "trained_on": list(self.trained_on)}
        if not self.parent:
            del content["parent"]
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder holds a model."""
    return (path / DESCRIPTION).is_file()


def shipped_models() -> dict[str, Path]:
    """Return the models shipped with nucbench: name -> folder."""
    return {path.name: path for path in sorted(SHIPPED.glob("*")) if is_model_folder(path)}


def write_model(folder: Path, method: NucleiMethod, about: Description, *, half: bool = False) -> Description:
    """Write weights and description of a method into a new folder.

    Args:
        folder: Folder to create.
        method: Method with its weights.
        about: The description, with the options that differ from the defaults. All options are stored, so that the
            model does not depend on later defaults, except the sources of initial weights; ``sha256`` is filled in.
        half: Store the kernels in float16: half the size. Biases and batch statistics stay float32.

    Returns:
        The stored description.
    """
    from safetensors.torch import save

    from benchmark.options import option_defaults, weight_options

    folder.mkdir(parents=True)
    weights = save({name: _stored(value, half) for name, value in method.state_dict().items()})
    (folder / WEIGHTS).write_bytes(weights)  # save_file of the library creates a file that only its owner can read
    every = {**option_defaults(type(method)), **about.options}
    options = {name: value for name, value in every.items() if name not in weight_options(type(method))}
    stored = dataclasses.replace(about, options=options, sha256=hashlib.sha256(weights).hexdigest())
    stored.write(folder)
    return stored


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() and value.ndim > 1 else value


def read_weights(folder: Path, description: Description, method: NucleiMethod) -> None:
    """Load the weights of a model folder into its method, in float32.

    Raises:
        DataError: If the file is missing, has changed, or belongs to another network.
    """
    from models.base.weights import load_exactly, read_state

    path = folder / WEIGHTS
    if not path.is_file():
        raise DataError(f"{folder} has no {WEIGHTS}; copy the whole folder")
    if file_hash(path) != description.sha256:
        raise DataError(f"{path} is not the file that {DESCRIPTION} describes (its sha256 differs); copy it again")
    state = {k: v.float() if v.is_floating_point() else v for k, v in read_state(path).items()}
    load_exactly(method, state, str(path))


__all__ = [
    "CARD", "DESCRIPTION", "SHIPPED", "WEIGHTS", "Description", "is_model_folder", "read_weights",
    "shipped_models", "write_model",
]  # fmt: skip
