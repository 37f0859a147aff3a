"""`Mirror`: shows one run on Weights & Biases and in TensorBoard while it is done, and what it has stored before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from benchmark.host.files import read_json
from benchmark.metrics.pooling import summarise
from benchmark.mirrors import describe, pictures
from benchmark.mirrors.connection import reason, warn
from benchmark.mirrors.loggers import MirrorLogger, Shown, TensorBoardMirror, WandbMirror
from benchmark.mirrors.notebook import Notebook
from benchmark.mirrors.training import ContinuedCSVLogger, Watch, metrics_file, read_metrics
from benchmark.results.run import Run
from benchmark.results.spec import Target
from datamodules.reading.sample import Sample
from postproc.errors import DataError

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod
    from postproc.codec import Params


class Mirror:
    """What a run tells while it is done. A context: leaving it ends what was opened.

    Nothing is opened for a run of which there is nothing new to tell. What was stored while a mirror was off, it is
    shown when the run is asked for again.

    Args:
        run: The run, its directory held by this process.
        group: What it is listed under; empty = its method.

    Raises:
        ConfigError: If TensorBoard is wanted and not installed.
    """

    def __init__(self, run: Run, group: str = "") -> None:
        spec, store, method, machine = run.spec, run.store, run.method, run.machine
        self._run = run
        self._notes = Notebook(store.path, store.run_id)
        self._tiles: list[Sample] = []

        def about() -> dict[str, Any]:
            self._notes.keep()
            return {
                "id": self._notes.wandb_id,
                "name": spec.run_id,
                "group": group or spec.method,
                "job_type": "train" if method.card.trained else "evaluate",
                "tags": describe.tags(spec, method),
                "config": describe.configuration(spec, method, run.sources.first.data),
            }

        self._loggers: list[MirrorLogger] = []
        if machine.wandb != "off":
            try:
                self._loggers.append(WandbMirror(machine.wandb, store.path, about))
            except ModuleNotFoundError as error:
                warn(f"gives up ({reason(error)}); the run continues, and its results are stored")
        if machine.tensorboard:
            self._loggers.append(TensorBoardMirror(store.path / "logs" / "tensorboard"))

    def __enter__(self) -> Mirror:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was opened."""
        for logger in self._loggers:
            logger.close(failed=kind is not None)

    def phase(self, index: int, first: int) -> tuple[list[Logger], list[pl.Callback]]:
        """Return loggers and callbacks for a phase of the training, before which `first` steps were taken."""

        def begin(step: int) -> None:
            for logger in self._loggers:
                logger.begin(first + step)
                self._catch_up(logger, index, first)

        def draw(method: NucleiMethod, step: int) -> None:
            self._show(self._loggers, lambda: self._predicted(method, method.codec.defaults()), first + step)

        for logger in self._loggers:
            logger.first = first
        records = ContinuedCSVLogger(self._run.store.path, index)
        looks = draw if self._loggers and self._run.spec.protocol == "strict" else None
        return [records, *self._loggers], [Watch(records, begin, looks)]

    def prepared(self, params: Mapping[str, Params]) -> None:
        """Show what training and tuning have left: losses not shown yet, parameters, pictures of validation images."""
        loggers = self._without("training")
        if not loggers:
            return
        steps = self._phase_steps()
        chosen, best = describe.fitted(read_json(self._run.store.params_file))
        for logger in loggers:
            for index in range(len(steps)):
                self._catch_up(logger, index, sum(steps[:index]))
            logger.settings({"postprocessing": chosen})
            logger.figures(best, sum(steps))
        default = params[self._run.method.card.variants[0].key]
        wanted = self._run.spec.protocol == "strict"
        self._show(
            loggers, lambda: self._predicted(self._run.method, default) if wanted else {}, sum(steps), "training"
        )

    def evaluated(self, data: NucleiDataModule, target: Target, variants: Sequence[str]) -> None:
        """Show the scores of an evaluation: per image, summed up, and with pictures of the first images."""
        default = self._run.method.card.variants[0].key
        for variant in variants:
            place = f"{target}/{variant}"
            loggers = self._without(place)
            if not loggers:
                continue
            scores = pd.read_csv(self._run.store.evaluation(str(target), variant) / "scores.csv", dtype={"image": str})
            values = describe.figures(target, variant, default, summarise(scores))
            # each evaluation is a step of its own behind the training, also in a run that goes on
            step = sum(self._phase_steps()) + 1 + max(len(self._notes.shown(logger.key)) for logger in loggers)
            for logger in loggers:
                logger.figures(values, step)
                logger.show({f"scores/{place}": scores}, step)
            self._show(loggers, partial(self._evaluated, data, target, variant), step, place)

    # ---- how ------------------------------------------------------------------------------------------------------

    def _without(self, what: str) -> list[MirrorLogger]:
        return [each for each in self._loggers if not each.gone and what not in self._notes.shown(each.key)]

    def _note(self, logger: MirrorLogger, what: str) -> None:
        if not logger.gone:
            self._notes.note(logger.key, what)

    def _catch_up(self, logger: MirrorLogger, index: int, first: int) -> None:
        """Show the losses of a phase that were logged while the mirror was off."""
        if logger not in self._without(f"phase{index}"):
            return
        for row in read_metrics(metrics_file(self._run.store.path, index)):
            logger.row({k: v for k, v in row.items() if k != "step"}, first + int(row["step"]))
        self._note(logger, f"phase{index}")

    def _phase_steps(self) -> list[int]:
        """Return the steps that each phase of the finished training took."""
        steps: list[int] = []
        if self._run.method.card.trained:
            for index in range(len(self._run.method.recipe.phases)):
                try:
                    steps.append(int(read_json(self._run.store.checkpoints / f"phase{index}.json")["steps"]))
                except (DataError, KeyError):  # stored by an earlier version
                    break
        return steps

    def _predicted(self, method: NucleiMethod, params: Params) -> Shown:
        """Draw what the network finds in parts of the validation images."""
        source, split = self._run.sources.validation
        if not self._tiles:
            self._tiles = pictures.validation_crops(source, split)
        found = pictures.of_network(
            method,
            method.codec,
            params,
            self._tiles,
            types=method.task.types,
            magnification=self._run.magnification,
            precision=self._run.spec.precision,
        )
        return {"predictions/validation": found}

    def _evaluated(self, data: NucleiDataModule, target: Target, variant: str) -> Shown:
        return {f"predictions/{target}/{variant}": pictures.of_evaluation(self._run.store, data, target, variant)}

    def _show(self, loggers: Sequence[MirrorLogger], make: Callable[[], Shown], step: int, note: str = "") -> None:
        """Draw once and show everywhere; a picture that cannot be drawn must not stop a run."""
        if all(logger.gone for logger in loggers):
            return
        try:
            shown = {name: value for name, value in make().items() if len(value)}
        except Exception as error:
            warn(f"no pictures ({type(error).__name__}: {error})")
            shown = {}
        for logger in loggers:
            if shown:
                logger.show(shown, step)
            if note:
                self._note(logger, note)
