"""The score that chooses the checkpoint under protocol ``strict``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postproc.errors import ConfigError

if TYPE_CHECKING:
    from models.base.card import MethodCard


def check_monitor(monitor: str, card: MethodCard, annotation: str) -> None:
    """Reject a score that validation does not compute.

    Args:
        monitor: One of `benchmark.results.spec.MONITORS`.
        card: Card of the method.
        annotation: Annotation of the validation images, as on a dataset card.

    Raises:
        ConfigError: If the score needs outlines and the method or the annotation has only points, or the reverse.
    """
    outlines = annotation == "instances" and "segmentation" in card.tasks
    if not outlines and monitor in ("dice", "aji", "pq"):
        raise ConfigError(f"monitor={monitor} needs outlines; {card.name} is validated on points here. Use f1 or loss.")
    if outlines and monitor == "f1":
        raise ConfigError(f"monitor=f1 is for points; {card.name} is validated on outlines here. Use aji, pq or dice.")


__all__ = ["check_monitor"]
