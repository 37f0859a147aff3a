from __future__ import annotations

import pytest

from leaderboards.render import escape, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HoVer-Net", "HoVer-Net"),
        ("a|b", r"a\|b"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("R&D", "R&amp;D"),
        ("&lt;", "&amp;lt;"),
        ("M_-smooth *and* `code`", r"M\_-smooth \*and\* \`code\`"),
        ("[link](x) [^1]", r"\[link\](x) \[\^1\]"),
        ("two\nlines\r\n| end", r"two lines \| end"),
        ("back\\|slash", r"back\\\|slash"),
        ("F_c^e", r"F\_c\^e"),
    ],
)
def test_names_are_shown_as_they_are(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_table_has_one_line_per_row() -> None:
    text = table(["a", "b"], [[escape("x\n|y"), "1"], ["z", "2"]])
    assert text.splitlines() == ["| a | b |", "| :-- | --: |", r"| x \|y | 1 |", "| z | 2 |"]
