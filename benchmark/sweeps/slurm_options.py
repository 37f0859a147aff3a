"""What the command line can ask SLURM for; imports nothing heavy, so that ``--help`` stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from postproc.errors import ConfigError

Executor = Literal["inline", "local", "slurm"]
"""Where the runs of a sweep are made: one after the other, in several processes, or as jobs of a cluster."""
GRACE_SECONDS = 90
"""Time between the signal that a job is about to end and its end: enough to write a checkpoint."""


@dataclass(frozen=True)
class SlurmOptions:
    """What SLURM is asked for, for each run.

    Attributes:
        partition: Partition; None = the cluster's default.
        account: Account to charge; None = the user's default.
        minutes: Time limit of a job; one that reaches it is checkpointed and queued again.
        gpus: GPUs.
        cpus: Cores.
        memory: Memory in GB; None = the cluster's default.
        parallel: Most runs at the same time; None = as many as the cluster gives.
        wait: Stay until all jobs have ended. False returns after submitting; the same command later says how they are.
    """

    partition: str | None = None
    account: str | None = None
    minutes: int = 1440
    gpus: int = 0
    cpus: int = 2
    memory: float | None = None
    parallel: int | None = None
    wait: bool = True

    def check(self) -> None:
        """Check the counts: SLURM takes 0 for no limit, or for everything.

        Raises:
            ConfigError: If one is impossible.
        """
        for name, least in (("minutes", 1), ("gpus", 0), ("cpus", 1), ("memory", 0.1), ("parallel", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--slurm.{name} must be {least} or more, not {value}")

    def parameters(self) -> dict[str, Any]:
        """Return them as submitit names them."""
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
