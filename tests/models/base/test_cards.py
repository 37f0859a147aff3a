"""The texts of the cards, held against the recipes that are run."""

from __future__ import annotations

import re

import pytest

from benchmark.registry import METHODS, method_class
from datamodules.drawing.augment import POLICIES, build_policy
from models.base import card_texts
from models.base.recipe import describe

TRAINED = sorted(name for name in METHODS if method_class(name).card.trained)

OWNERS = {
    "hovernet": {
        *("hovernet", "unet", "dcan", "segnet", "fcn8", "micronet", "mask-rcnn"),  # Graham et al. 2019, section V-B
        *("cianet", "dran", "cnn2", "cnn3"),  # rows of their table whose own augmentation is not known
    },
    "dist": {"dist", "unet-dist"},
    "naylor-2017": {"pangnet", "deconvnet", "ensemble"},
    "kinet": {"kinet", "frcn", "fcrn-a", "fcrn-b", "sfcn-opi", "ki67-fcn8s", "ki67-unet"},
    "stardist": {"stardist"},
    "stain": {"sc-cnn"},
    "flips": {"self-supervised"},
    "hover-lite": {"hover-lite"},
}
"""Policy -> the methods whose own paper, or whose comparison, has it."""

GENERATED = re.compile(
    r"augment|elastic|deform|blur|\bturn|rotat|mirror|\bflip|crops? of|batch \d|\d epochs of|\d epochs[,;:.]"
    r"|learning rate"
)
"""What `describe` says, so that the text of a recipe must not."""
CHANGES = re.compile(r"[Aa]ugment|elastic|deform|\bblur|rotat|\bflip")


def test_every_method_is_trained_with_its_own_papers_augmentation() -> None:
    for policy, methods in OWNERS.items():
        assert {name for name in methods if method_class(name).recipe.augment != policy} == set()
    # a method that is none of theirs says which policy it has, and why
    for name in set(TRAINED) - {name for methods in OWNERS.values() for name in methods}:
        card, policy = method_class(name).card, method_class(name).recipe.augment
        assert any(f"policy {policy}" in text for text in (card.recipe, *card.deviations)), name


@pytest.mark.parametrize("name", TRAINED)
def test_the_description_of_a_recipe_holds_its_figures(name: str) -> None:
    recipe = method_class(name).recipe
    text = describe(recipe)
    assert f"crops of {recipe.crop} px, {recipe.crops_per_image} of each image" in text
    assert f"augmentation {recipe.augment} ({build_policy(recipe.augment).summary})" in text
    for phase in recipe.phases:
        length = f"{phase.steps:,} steps" if phase.epochs is None else f"{phase.epochs:,} epochs"
        assert f"{length} of batch {phase.batch_size}, learning rate {phase.lr:g}" in text
        assert str(phase.schedule) in text


@pytest.mark.parametrize("name", sorted(name for name in vars(card_texts) if name.isupper()))
def test_a_shared_text_is_on_several_cards(name: str) -> None:
    cards = [method_class(method).card for method in METHODS]
    text = getattr(card_texts, name)
    assert sum(text in " ".join((card.recipe, *card.deviations)) for card in cards) >= 2


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_card_leaves_to_the_recipe_what_is_the_recipes(name: str) -> None:
    assert GENERATED.findall(method_class(name).card.recipe) == []


@pytest.mark.parametrize("name", TRAINED)
def test_no_deviation_contradicts_the_recipe(name: str) -> None:
    card, recipe = method_class(name).card, method_class(name).recipe
    for text in card.deviations:
        for pattern, value in (
            (r"\b[Cc]rops of (\d+) px", recipe.crop),
            (r"(\d+)(?: crops)? of each image in an epoch", recipe.crops_per_image),
            (r"(?<!of )\b(\d+) crops of each image", recipe.crops_per_image),
        ):
            claimed = {int(figure) for figure in re.findall(pattern, text)}
            assert not claimed or value in claimed, text
        named = set(re.findall(r"policy ([a-z0-9-]+)", text))
        assert named <= set(POLICIES), text
        if CHANGES.search(text):
            assert recipe.augment in named, text
