"""Nucleus types of weights that were trained elsewhere: their names, order, and whether they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from models.base.method import Task
from postproc.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from datamodules.reading.card import DatasetCard
    from models.base.foreign import Foreign


class Wishes(Protocol):
    """What the user says of the types."""

    @property
    def types(self) -> tuple[str, ...] | None:
        """Names of the types in the order of the file; None = not stated."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the method."""


def match_types(
    foreign: Foreign, wishes: Wishes, stored: Task | None, card: DatasetCard | None
) -> tuple[Foreign, Task]:
    """Name the types of a file, bring them into the order of the training set's card, or drop their branch.

    Names are those given, otherwise those of the checkpoint, otherwise those of the card. A branch for types is
    dropped with ``classify=false``, and if the training set is known to have no types and none are named.

    Args:
        foreign: The weights.
        wishes: Types and options as given.
        stored: Task of a checkpoint of this suite; None = the file holds none.
        card: Card of the training set; None = it is not registered.

    Returns:
        The weights and the task.

    Raises:
        ConfigError: If names are missing, repeated, too few or too many, or not those of the training set.
    """
    mpp = stored.mpp if stored else Task.of_card(card).mpp if card else None
    known = card.types if card else ()
    given = wishes.types or (stored.types if stored else None)
    if str(wishes.options.get("classify")).lower() == "false" or (card is not None and not known and not given):
        return (foreign.without_types() if foreign.types else foreign), Task((), mpp)
    if foreign.types == 0:
        if wishes.types:
            raise ConfigError("the file predicts no types; leave out --types")
        return foreign, Task((), mpp)
    names = given or known
    _check(foreign, names)
    if len(names) == len(known):  # more or fewer types are another grouping, with names of its own
        for name in names:
            if name not in known:
                raise unknown_name("type of the training set", name, known)
    if foreign.outputs and set(names) == set(known):
        return foreign.reordered(tuple(names.index(name) + 1 for name in known)), Task(tuple(known), mpp)
    return foreign, Task(tuple(names), mpp)


def _check(foreign: Foreign, names: tuple[str, ...]) -> None:
    """Reject names that are repeated or not as many as the file's types."""
    if len(set(names)) != len(names):
        raise ConfigError(f"--types {' '.join(names)} names a type twice")
    if foreign.types is None or len(names) == foreign.types:
        return
    raise ConfigError(
        f"the file has {foreign.types} nucleus types, but {len(names) or 'none'} are named"
        + (f" ({', '.join(names)})" if names else "")
        + f". Name all {foreign.types} in the order of the file with --types, or drop them: --options.classify false"
    )


__all__ = ["match_types"]
