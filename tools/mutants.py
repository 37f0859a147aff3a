"""Check the tests: break the code in one place at a time, and see whether the responsible tests fail.

Each change is made in a scratch copy of the last commit and undone afterwards. SURVIVED marks changes that no test
detected. This is not part of the continuous checks: it takes about ten minutes in total. Commit first.

    python tools/mutants.py            # every mutant
    python tools/mutants.py best radius   # those whose name contains one of the words
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEHAVIOUR = "tests/benchmark/runs/test_training_behaviour.py"
DATA = "tests/benchmark/runs/test_data_behaviour.py"


@dataclass(frozen=True)
class Mutant:
    """A small change that makes the code wrong.

    Attributes:
        name: The error that the change introduces.
        file: Changed file, relative to the root of the repository.
        old: Text that must occur exactly once.
        new: Its replacement.
        tests: Test files (or ``file::test``) of which one must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "the worst epoch is kept",
        "benchmark/runs/phase_keeper.py",
        "if value < self.best if self.monitor == LOSS else value > self.best:",
        "if self.best_epoch < 0 or (value > self.best if self.monitor == LOSS else value < self.best):",
        (BEHAVIOUR,),
    ),
    Mutant(
        "the last epoch is kept instead of the best",
        "benchmark/runs/train.py",
        "if run.strict and keeper.best_file.exists():",
        "if False:",
        (BEHAVIOUR,),
    ),
    Mutant(
        "training never stops early",
        "benchmark/runs/phase_keeper.py",
        "elif self._patience is not None and trainer.current_epoch",
        "elif False and self._patience is not None and trainer.current_epoch",
        (BEHAVIOUR,),
    ),
    Mutant(
        "the learning-rate schedule is never applied",
        "models/base/method.py",
        "rate = self.phase.lr * self.phase.schedule(self.progress)",
        "rate = self.phase.lr",
        (BEHAVIOUR,),
    ),
    Mutant(
        "every phase draws the same crops",
        "benchmark/runs/train.py",
        "seed=run.spec.seed + SEED_STEP * index,",
        "seed=run.spec.seed,",
        (BEHAVIOUR,),
    ),
    Mutant(
        "every phase has the same dropout",
        "benchmark/runs/phase_keeper.py",
        "self._seed = run.spec.seed + SEED_STEP * index",
        "self._seed = run.spec.seed",
        (BEHAVIOUR,),
    ),
    Mutant(
        "DIST has no weight decay",
        "models/dist.py",
        "torch.optim.Adam(parameters, lr=lr, weight_decay=self.weight_decay)",
        "torch.optim.Adam(parameters, lr=lr)",
        (BEHAVIOUR,),
    ),
    Mutant(
        "validation images are trained on",
        "datamodules/base.py",
        "for record in self.select(split) if not (strict and record.validation))",
        "for record in self.select(split))",
        (BEHAVIOUR,),
    ),
    Mutant(
        "validation crops are augmented",
        "models/base/method.py",
        "validation=self.drawer(recipe, augment=False),",
        "validation=self.drawer(recipe, augment=True),",
        (BEHAVIOUR,),
    ),
    Mutant(
        "post-processing is never tuned",
        "benchmark/runs/tune.py",
        "if not run.strict:",
        "if True:",
        (BEHAVIOUR,),
    ),
    Mutant(
        "the worst post-processing is chosen",
        "benchmark/runs/tune.py",
        "best = int(np.argmax(means))",
        "best = int(np.argmin(means))",
        (BEHAVIOUR,),
    ),
    Mutant(
        "post-processing is tuned on test images",
        "benchmark/runs/tune.py",
        "    for record in track(source.records(),",
        '    for record in track(source.data.select("test"),',
        (BEHAVIOUR,),
    ),
    Mutant(
        "detections count within 12 px in every set",
        "benchmark/runs/evaluate.py",
        "                radius=card.radius,\n                types=types,",
        "                radius=12.0,\n                types=types,",
        (DATA,),
    ),
    Mutant(
        "the last image is not scored",
        "benchmark/runs/evaluate.py",
        "for record in track(images.records(), f",
        "for record in track(images.records()[:-1], f",
        (BEHAVIOUR,),
    ),
    Mutant(
        "tiles are prepared with their own statistics, as crops in training",
        "benchmark/forward/maps.py",
        "prepared = method.prepare(batch, statistics.expand(len(group), 2, 3))",
        "prepared = method.prepare(batch)",
        (DATA,),
    ),
    Mutant(
        "HV maps are encoded in the wrong order",
        "postproc/codecs/hover.py",
        "*_scales(spans, part, count, smallest), maps)\n    return maps",
        "*_scales(spans, part, count, smallest), maps)\n    return maps[::-1].copy()",
        ("tests/postproc/codecs/test_hover.py", DATA),
    ),
    Mutant(
        "HV maps are decoded in the wrong order",
        "postproc/codecs/hover.py",
        'horizontal, vertical = np.asarray(maps["hv"], np.float32)',
        'vertical, horizontal = np.asarray(maps["hv"], np.float32)',
        ("tests/postproc/codecs/test_hover.py", DATA),
    ),
    Mutant(
        "settings of the training change the runs of classical methods",
        "benchmark/sweeps/spec.py",
        "return overrides if method_class(method).card.trained else Overrides()",
        "return overrides",
        ("tests/benchmark/sweeps/test_spec.py",),
    ),
    Mutant(
        "images are simulated from another image's annotation",
        "datamodules/synthetic_sets.py",
        "labels = source.read(records[name]).truth.labels",
        "labels = source.read(next(iter(records.values()))).truth.labels",
        ("tests/datamodules/synthetic/test_outlines.py",),
    ),
)


def main(words: list[str]) -> int:
    """Try the mutants whose names contain one of `words` (empty = all); return 1 if one survives."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    if not chosen:
        print(f"no mutant has a name that contains {' or '.join(words)}")
        return 2
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        _git("worktree", "add", "--quiet", "--detach", str(copy), "HEAD")
        try:
            for mutant in chosen:  # check all before the first run, so that outdated texts are reported at once
                _mutated(copy, mutant)
            tests = sorted({test for mutant in chosen for test in mutant.tests})
            if not _passes(copy, tests):
                print(f"the tests fail even without a change: {' '.join(tests)}")
                return 2
            for mutant in chosen:
                start, survived = time.monotonic(), _survives(copy, mutant)
                word = "SURVIVED" if survived else "killed"
                print(f"{word:<9} {mutant.name} ({mutant.file}, {time.monotonic() - start:.0f} s)", flush=True)
                survivors += [mutant] if survived else []
        finally:
            _git("worktree", "remove", "--force", str(copy))
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed")
    return int(bool(survivors))


def _survives(copy: Path, mutant: Mutant) -> bool:
    """Make a change, run its tests, undo it, and return whether the tests still pass."""
    path = copy / mutant.file
    before = path.read_text(encoding="utf-8")
    path.write_text(_mutated(copy, mutant), encoding="utf-8")
    try:
        return _passes(copy, mutant.tests)
    finally:
        path.write_text(before, encoding="utf-8")


def _mutated(copy: Path, mutant: Mutant) -> str:
    """Return the text of the changed file.

    Raises:
        SystemExit: If the old text does not occur exactly once.
    """
    text = (copy / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"mutant {mutant.name!r}: {mutant.file} has this text {text.count(mutant.old)} times, not once; update "
            f"the mutant:\n{mutant.old}"
        )
    return text.replace(mutant.old, mutant.new)


def _passes(copy: Path, tests: list[str] | tuple[str, ...]) -> bool:
    """Run tests in the copy, with the packages of the copy.

    Raises:
        SystemExit: If they could not be run, for example because a file is missing.
    """
    compiled = copy.parent / "numba"
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "NUMBA_CACHE_DIR": str(compiled),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest {' '.join(tests)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
