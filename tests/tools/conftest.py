"""Scripts are imported from their folder, as they import each other when they run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tools"))
