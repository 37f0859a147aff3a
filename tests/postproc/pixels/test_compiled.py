"""Compiled functions and their cache on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = """
from typing import NamedTuple
import numpy as np
class Parts(NamedTuple):
    area: np.ndarray
"""
CALLER = """
import numpy as np
from postproc.pixels.compiled import compiled
from {module} import Parts
@compiled
def total(parts):
    return parts.area.sum()
if __name__ == "__main__":
    import caller
    print(caller.total(Parts(np.ones(3))))
"""


@pytest.mark.parametrize("cached", [True, False], ids=["next to the file", "elsewhere"])
@pytest.mark.slow
def test_a_cache_that_names_a_moved_module_is_compiled_again(tmp_path: Path, cached: bool) -> None:
    root = Path(__file__).parents[3]
    settings = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    if cached:
        del settings["NUMBA_CACHE_DIR"]
    for number, module in enumerate(("older", "newer")):
        (tmp_path / f"{module}.py").write_text(PACKAGE)
        if module == "newer":
            (tmp_path / "older.py").unlink()
        (tmp_path / "caller.py").write_text(CALLER.format(module=module) + "#" * number)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "caller.py")],
            env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout == "3.0\n", done.stderr
    assert list(tmp_path.rglob("*.nbi"))
