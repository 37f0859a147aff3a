"""`Mirror`: shows one run on Weights & Biases and in TensorBoard while it is done, and what it has stored before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from benchmark.host.files import read_json
from benchmark.metrics.pooling import summarise
from benchmark.mirrors import describe, pictures
from benchmark.mirrors.connection import About, Connection, warn
from benchmark.mirrors.notebook import Notebook
from benchmark.mirrors.sinks import Shown, Sink, TensorBoard, Wandb
from benchmark.mirrors.training import ContinuedCSVLogger, SinkLogger, Watch, metrics_file, read_metrics
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

        def about() -> About:
            self._notes.keep()
            return About(
                self._notes.wandb_id,
                spec.run_id,
                group or spec.method,
                "train" if method.card.trained else "evaluate",
                describe.tags(spec, method),
                describe.configuration(spec, method, run.sources.first.data),
            )

        self._sinks: list[Sink] = []
        if machine.wandb != "off":
            self._sinks.append(Wandb(Connection(machine.wandb, store.path, about)))
        if machine.tensorboard:
            self._sinks.append(TensorBoard(store.path / "logs" / "tensorboard"))

    def __enter__(self) -> Mirror:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was opened."""
        for sink in self._sinks:
            sink.close(failed=kind is not None)

    def phase(self, index: int, first: int) -> tuple[list[Logger], list[pl.Callback]]:
        """Return loggers and callbacks for a phase of the training, before which `first` steps were taken."""

        def begin(step: int) -> None:
            for sink in self._sinks:
                sink.begin(first + step)
                self._catch_up(sink, index, first)

        def draw(method: NucleiMethod, step: int) -> None:
            self._show(self._sinks, lambda: self._predicted(method, method.codec.defaults()), first + step)

        records = ContinuedCSVLogger(self._run.store.path, index)
        looks = draw if self._sinks and self._run.spec.protocol == "strict" else None
        return [records, *(SinkLogger(sink, first) for sink in self._sinks)], [Watch(records, begin, looks)]

    def prepared(self, params: Mapping[str, Params]) -> None:
        """Show what training and tuning have left: losses not shown yet, parameters, pictures of validation images."""
        sinks = self._without("training")
        if not sinks:
            return
        steps = self._phase_steps()
        for sink in sinks:
            for index in range(len(steps)):
                self._catch_up(sink, index, sum(steps[:index]))
        default = self._run.method.card.variants[0].key
        wanted = self._run.spec.protocol == "strict"
        chosen, best = describe.fitted(read_json(self._run.store.params_file))
        told = [s for s in sinks if s.settings({"postprocessing": chosen}) and s.figures(best, sum(steps))]
        self._show(
            told, lambda: self._predicted(self._run.method, params[default]) if wanted else {}, sum(steps), "training"
        )

    def evaluated(self, data: NucleiDataModule, target: Target, variants: Sequence[str]) -> None:
        """Show the scores of an evaluation: per image, summed up, and with pictures of the first images."""
        default = self._run.method.card.variants[0].key
        for variant in variants:
            place = f"{target}/{variant}"
            sinks = self._without(place)
            if not sinks:
                continue
            scores = pd.read_csv(self._run.store.evaluation(str(target), variant) / "scores.csv", dtype={"image": str})
            values = describe.figures(target, variant, default, summarise(scores))
            # each evaluation is a step of its own behind the training, also in a run that goes on
            step = sum(self._phase_steps()) + 1 + max(len(self._notes.shown(sink.name)) for sink in sinks)
            told = [s for s in sinks if s.figures(values, step) and s.show({f"scores/{place}": scores}, step)]
            self._show(told, partial(self._evaluated, data, target, variant), step, place)

    # ---- how ------------------------------------------------------------------------------------------------------

    def _without(self, what: str) -> list[Sink]:
        return [sink for sink in self._sinks if what not in self._notes.shown(sink.name)]

    def _catch_up(self, sink: Sink, index: int, first: int) -> None:
        """Show the losses of a phase that were logged while the sink was off."""
        if sink not in self._without(f"phase{index}"):
            return
        for row in read_metrics(metrics_file(self._run.store.path, index)):
            sink.row({k: v for k, v in row.items() if k != "step"}, first + int(row["step"]))
        self._notes.note(sink.name, f"phase{index}")

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
            self._tiles = pictures.validation_tiles(source, split)
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

    def _show(self, sinks: Sequence[Sink], make: Callable[[], Shown], step: int, note: str = "") -> None:
        """Draw once and show everywhere; a picture that cannot be drawn must not stop a run."""
        if not sinks:
            return
        try:
            shown = {name: value for name, value in make().items() if len(value)}
        except Exception as error:
            warn(f"no pictures ({type(error).__name__}: {error})")
            shown = {}
        for sink in sinks:
            if (not shown or sink.show(shown, step)) and note:
                self._notes.note(sink.name, note)
