"""Files and folders of results: what cannot be written is named with the remedy."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from benchmark.host.faults import in_words
from benchmark.host.files import held
from postproc.errors import ConfigError


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            ConfigError, match=r"file/out cannot be created \(Not a directory\); give one where you may write"
        ),
        held(tmp_path / "file/out", "predicting into"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_without_permission_has_a_remedy(number: int) -> None:
    said = in_words(OSError(number, "No", "there.csv"))
    assert said == "there.csv: No; check its permissions, or give another place"


def test_a_missing_file_is_named() -> None:
    assert in_words(FileNotFoundError(errno.ENOENT, "No such file", "there.csv")) == "there.csv: No such file"
