"""Weights that were trained with other code, or with this suite elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.base.weights import State


@dataclass(frozen=True)
class Foreign:
    """The tensors of a weights file under the names of a method, and the facts that their shapes show.

    Attributes:
        layout: Code that wrote the file, for records.
        state: Tensors under the names of the method's ``state_dict``.
        names: Name in the method -> name in the file, for every tensor of `state`.
        options: Options of the method that the tensors determine.
        left_out: Names in the file of constants that the method does not need.
        types: Number of nucleus types, 0 = none; None = the file does not show it.
        branch: Prefix of the tensors, as named in the method, that predict types and nothing else.
        outputs: Tensors, as named in the method, whose first axis is background and types.
    """

    layout: str
    state: State
    names: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    types: int | None = None
    branch: str = ""
    outputs: tuple[str, ...] = ()

    @classmethod
    def own(cls, state: State) -> Foreign:
        """Return tensors that already have the names of the method."""
        return cls("nucbench", state, {name: name for name in state})

    def without_types(self) -> Foreign:
        """Return the same weights without the branch that predicts types, whose tensors are left out."""
        dropped = [name for name in self.state if name.startswith(self.branch)]
        return Foreign(
            self.layout,
            {name: value for name, value in self.state.items() if name not in dropped},
            {ours: theirs for ours, theirs in self.names.items() if ours not in dropped},
            self.options,
            (*self.left_out, *(self.names[name] for name in dropped)),
            types=0,
        )

    def reordered(self, order: tuple[int, ...]) -> Foreign:
        """Return the same weights with the types in another order.

        Args:
            order: For each type 1..T, its number in the file.
        """
        rows = [0, *order]
        state = {name: value[rows] if name in self.outputs else value for name, value in self.state.items()}
        return Foreign(
            self.layout, state, self.names, self.options, self.left_out, self.types, self.branch, self.outputs
        )


__all__ = ["Foreign"]
