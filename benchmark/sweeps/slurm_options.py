"""Options of SLURM on the command line; without heavy imports, so that ``--help`` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from postproc.errors import ConfigError

Executor = Literal["inline", "local", "slurm"]
"""Executor of a sweep: one run after another, several processes, or jobs of a cluster."""
GRACE_SECONDS = 90
"""Time between the warning signal and the end of a job: enough to write a checkpoint."""


@dataclass(frozen=True)
class SlurmOptions:
    """Resources to request from SLURM for each run.

    Attributes:
        partition: Partition; default: that of the cluster.
        account: Account to charge; default: that of the user.
        minutes: Time limit of a job; a job that reaches it writes a checkpoint and is queued again.
        gpus: Number of GPUs.
        cpus: Number of cores.
        memory: Memory in GB; default: that of the cluster.
        parallel: Maximum number of simultaneous runs; default: no limit.
        wait: Return after submitting; repeat the command to see the state of the runs.
    """

    group: ClassVar[str] = "slurm"
    """The options are --slurm.NAME."""

    partition: str | None = None
    account: str | None = None
    minutes: int = 1440
    gpus: int = 0
    cpus: int = 2
    memory: float | None = None
    parallel: int | None = None
    wait: bool = True

    def check(self) -> None:
        """Check the counts, since SLURM reads 0 as "no limit" or "everything".

        Raises:
            ConfigError: If a count is too small.
        """
        for name, least in (("minutes", 1), ("gpus", 0), ("cpus", 1), ("memory", 0.1), ("parallel", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--slurm.{name} must be {least} or more, not {value}")

    def parameters(self) -> dict[str, Any]:
        """Return the options under the names of submitit."""
        given = {
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_time": self.minutes,
            "slurm_gpus_per_node": self.gpus or None,
            "slurm_cpus_per_task": self.cpus,
            "slurm_mem": None if self.memory is None else f"{round(self.memory * 1024)}M",
            "slurm_array_parallelism": self.parallel,
            "slurm_signal_delay_s": GRACE_SECONDS,
            "slurm_job_name": "nucbench",
        }
        return {name: value for name, value in given.items() if value is not None}
