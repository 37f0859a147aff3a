"""`MethodCard`: the facts about a method, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One row of a table: one post-processing of the trained network.

    Attributes:
        key: Key of the codec in `NucleiMethod.codecs`; lower case, usable in file names.
        title: Row name as printed in tables.
        aliases: Other spellings in published tables.
    """

    key: str
    title: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodCard:
    """Facts about a method, used by lists, documentation and tests.

    Attributes:
        name: Registry name, lower case with hyphens.
        variants: Table rows produced by one training; the first is the default.
        summary: One sentence for `nucbench list methods`.
        paper: Paper to cite.
        url: DOI or address of the paper.
        recipe: Source of the training, and the parts that `Recipe` does not contain: optimiser, losses, initial
            weights. `models.base.recipe.describe` adds the rest.
        deviations: Each difference from the paper, with its reason. A deviation in augmentation names the policy.
        tasks: Among ``segmentation``, ``classification``, ``detection``.
        trained: False for classical pipelines.
        needs: Required training annotation: ``instances``, ``points`` or ``none``.
        pretrained: Name of the pretrained weights that the training starts from, empty for none.
    """

    name: str
    variants: tuple[Variant, ...]
    summary: str
    paper: str
    url: str
    recipe: str
    deviations: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("segmentation",)
    trained: bool = True
    needs: str = "instances"
    pretrained: str = ""

    @property
    def title(self) -> str:
        """Row name of the default variant."""
        return self.variants[0].title
