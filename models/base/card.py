"""`MethodCard`: the facts about a method, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One row of a table: a post-processing of the same trained network.

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
    """Facts about a method, from which lists, documentation and tests are made.

    Attributes:
        name: Registry name, lower case with hyphens.
        variants: The table rows that one training gives; the first is the default.
        summary: One sentence for `nucbench list methods`.
        paper: Paper to cite.
        url: DOI or address of the paper.
        recipe: What the training follows, and what of it `Recipe` does not hold: optimiser, losses, initial weights.
            The rest is `models.base.recipe.describe` of the recipe itself.
        deviations: Each difference from the paper, with its reason. One on augmentation names the policy.
        tasks: Among ``segmentation``, ``classification``, ``detection``.
        trained: False for classical pipelines.
        needs: What the training annotation must hold: ``instances``, ``points`` or ``none``.
        pretrained: Name of the pretrained weights the paper starts from, empty for none.
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
