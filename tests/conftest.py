"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{variable} names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real datasets."""
    return _folder("NUCBENCH_DATA")


@pytest.fixture(scope="session")
def golden_root() -> Path:
    """Folder of the figures computed with official implementations."""
    return _folder("NUCBENCH_GOLDEN")
