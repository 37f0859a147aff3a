"""Messages about unknown names."""

from __future__ import annotations

from postproc.errors import MOST_CHOICES, SIMILAR, unknown_name


def test_few_choices_are_all_listed() -> None:
    assert str(unknown_name("method", "dsit", ["unet", "dist"])) == (
        "unknown method 'dsit'. Did you mean 'dist'? Choices: dist, unet."
    )


def test_of_many_choices_the_similar_ones_are_listed() -> None:
    known = [f"vit{i}" for i in range(MOST_CHOICES)] + ["resnet18", "resnet34"]
    text = str(unknown_name("encoder", "resnet19", known))
    assert "resnet18" in text
    assert "resnet34" in text
    assert text.endswith(f" and {len(known) - SIMILAR} more.")
