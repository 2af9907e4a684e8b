"""`[slurm]`: how cells are run on a cluster."""

from dataclasses import asdict, dataclass, field, replace

from scaling.strict_values import require_positive

__all__ = ["SlurmConfig", "SlurmGrade"]


_OWN_SBATCH_OPTIONS = (
    *("array", "job-name", "output", "error", "open-mode", "requeue", "no-requeue", "signal"),
    *("partition", "time", "mem", "cpus-per-task", "gpus-per-node", "export"),
)


@dataclass(frozen=True)
class SlurmGrade:
    """`[slurm.grades.NAME]`: where this grade's jobs differ from `[slurm]`."""

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    cells_per_job: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no cluster can grant."""
        require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")


@dataclass(frozen=True)
class SlurmConfig:
    """`[slurm]`: how cells are run on a cluster; never part of a run's identity.

    Attributes:
        time_minutes: a job's time limit; None follows the estimate.
        memory_gib: a job's memory; None follows the estimate.
        cpus: cores of a job.
        gpus: GPUs of a job.
        max_parallel: jobs at once, of the whole sweep.
        cells_per_job: None packs short cells after the estimate.
        setup: shell lines before the worker starts, e.g. `module load cuda`.
        options: further options of sbatch, e.g. `account = "ours"`.
        grades: what a grade needs otherwise.
    """

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int = 1
    gpus: int = 0
    max_parallel: int = 16
    cells_per_job: int | None = None
    setup: tuple[str, ...] = ()
    options: dict[str, str | int | bool] = field(default_factory=dict)
    grades: dict[str, SlurmGrade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no cluster can grant, and options that the dispatch sets itself."""
        require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        require_positive(self, "max_parallel")
        if self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")
        for name in self.options:
            if name.replace("_", "-") in _OWN_SBATCH_OPTIONS:
                raise ValueError(
                    f"options.{name}: is set by scaling itself, or has a key of its own"
                )

    def of_grade(self, name: str) -> "SlurmConfig":
        """These settings with the grade's own in their place."""
        own = self.grades.get(name)
        if own is None:
            return self
        return replace(self, **{k: v for k, v in asdict(own).items() if v is not None})
