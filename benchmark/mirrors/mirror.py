"""`Mirror`: shows a run on Weights & Biases and TensorBoard, during the run and afterwards from stored results."""

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
from benchmark.mirrors.connection import warn
from benchmark.mirrors.dashboards import Dashboard, Shown, TensorBoardDashboard, WandbDashboard
from benchmark.mirrors.notebook import Notebook
from benchmark.mirrors.training import ContinuedCSVLogger, Watch, metrics_file, read_metrics
from benchmark.results.run import Run
from benchmark.results.spec import Target
from datamodules.reading.sample import Sample
from postproc.errors import DataError

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from postproc.codec import Params


class Mirror:
    """Dashboards of one run. A context manager that closes them at the end.

    Dashboards open only if there is something new to show. Results stored while a mirror was off are shown when the
    same run is started again with it.

    Args:
        run: The run, its directory locked by this process.
        group: Group of the run on the dashboard; empty = its method.

    Raises:
        ConfigError: If TensorBoard is requested but not installed.
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

        self._boards: list[Dashboard] = []
        if machine.wandb != "off":
            self._boards.append(WandbDashboard(machine.wandb, store.path, about))
        if machine.tensorboard:
            self._boards.append(TensorBoardDashboard(store.path / "logs" / "tensorboard"))

    def __enter__(self) -> Mirror:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the dashboards."""
        for board in self._boards:
            board.close(failed=kind is not None)

    def phase(self, index: int, first: int) -> tuple[list[Logger], list[pl.Callback]]:
        """Return loggers and callbacks of a training phase.

        Args:
            index: Number of the phase.
            first: Optimiser steps of the earlier phases.
        """

        def begin(step: int) -> None:
            for board in self._boards:
                board.begin(first + step)
                self._catch_up(board, index, first)

        def log(values: Mapping[str, Any], step: int) -> None:
            for board in self._boards:
                board.log(values, first + step)

        def draw(step: int) -> None:
            params = self._run.method.codec.defaults()
            self._show(self._boards, lambda: self._predicted(params), first + step)

        records = ContinuedCSVLogger(self._run.store.path, index, log)
        looks = draw if self._boards and self._run.strict else None
        return [records], [Watch(records, begin, looks)]

    def prepared(self, params: Mapping[str, Params]) -> None:
        """Show the results of training and tuning: losses not shown yet, parameters, pictures of validation images."""
        boards = self._without("training")
        if not boards:
            return
        steps = self._phase_steps()
        chosen, best = describe.fitted(read_json(self._run.store.params_file))
        for board in boards:
            for index in range(len(steps)):
                self._catch_up(board, index, sum(steps[:index]))
            board.configure({"postprocessing": chosen})
            board.summarise(best, sum(steps))
        default = params[self._run.method.card.variants[0].key]
        self._show(boards, lambda: self._predicted(default) if self._run.strict else {}, sum(steps), "training")

    def evaluated(self, data: NucleiDataModule, target: Target, variants: Sequence[str]) -> None:
        """Show the scores of an evaluation, per image and summarised, and pictures of the first images."""
        default = self._run.method.card.variants[0].key
        for variant in variants:
            place = f"{target}/{variant}"
            boards = self._without(place)
            if not boards:
                continue
            scores = pd.read_csv(self._run.store.evaluation(str(target), variant) / "scores.csv", dtype={"image": str})
            values = describe.figures(target, variant, default, summarise(scores))
            # each evaluation gets its own step after the training, also in a resumed run
            step = sum(self._phase_steps()) + 1 + max(len(self._notes.shown(board.key)) for board in boards)
            for board in boards:
                board.summarise(values, step)
                board.show({f"scores/{place}": scores}, step)
            self._show(boards, partial(self._evaluated, data, target, variant), step, place)

    def _without(self, what: str) -> list[Dashboard]:
        """Return the working dashboards that have not shown something yet."""
        return [each for each in self._boards if not each.gone and what not in self._notes.shown(each.key)]

    def _note(self, board: Dashboard, what: str) -> None:
        if not board.gone:
            self._notes.note(board.key, what)

    def _catch_up(self, board: Dashboard, index: int, first: int) -> None:
        """Show the losses of a phase that were logged while the mirror was off."""
        if board not in self._without(f"phase{index}"):
            return
        for row in read_metrics(metrics_file(self._run.store.path, index)):
            board.log({k: v for k, v in row.items() if k != "step"}, first + int(row["step"]))
        self._note(board, f"phase{index}")

    def _phase_steps(self) -> list[int]:
        """Return the number of steps of each phase of the finished training."""
        steps: list[int] = []
        if self._run.method.card.trained:
            for index in range(len(self._run.method.recipe.phases)):
                try:
                    steps.append(int(read_json(self._run.store.checkpoints / f"phase{index}.json")["steps"]))
                except (DataError, KeyError):  # a missing or damaged file must not stop a finished run
                    break
        return steps

    def _predicted(self, params: Params) -> Shown:
        """Draw the predictions of the network on parts of the validation images."""
        if not self._tiles:
            self._tiles = pictures.validation_crops(*self._run.sources.validation)
        return {"predictions/validation": pictures.of_network(self._run, params, self._tiles)}

    def _evaluated(self, data: NucleiDataModule, target: Target, variant: str) -> Shown:
        return {f"predictions/{target}/{variant}": pictures.of_evaluation(self._run.store, data, target, variant)}

    def _show(self, boards: Sequence[Dashboard], make: Callable[[], Shown], step: int, note: str = "") -> None:
        """Draw once and show on all dashboards; a failure to draw must not stop a run."""
        if all(board.gone for board in boards):
            return
        try:
            shown = {name: value for name, value in make().items() if len(value)}
        except Exception as error:
            warn(f"no pictures ({type(error).__name__}: {error})")
            shown = {}
        for board in boards:
            if shown:
                board.show(shown, step)
            if note:
                self._note(board, note)
