"""One run trained, checkpointed, resumed, evaluated and recorded.

Not here: grids, SLURM (`sweeps`), and the files that say who owns a run (`scaling.records`).
"""

from scaling.training.device import autocast, compile_blocks
from scaling.training.loop import (
    NonFiniteLossError,
    Training,
    denormals_flushed,
    predict,
    train_model,
)
from scaling.training.optimisers import build_optimisers
from scaling.training.ranks import ALONE, RankLostError, Ranks, joined_ranks
from scaling.training.run_on_disk import PreemptedError, breaks_device, train_run, train_runs
from scaling.training.saved_model import read_model

__all__ = [
    "ALONE",
    "NonFiniteLossError",
    "PreemptedError",
    "RankLostError",
    "Ranks",
    "Training",
    "autocast",
    "breaks_device",
    "build_optimisers",
    "compile_blocks",
    "denormals_flushed",
    "joined_ranks",
    "predict",
    "read_model",
    "train_model",
    "train_run",
    "train_runs",
]
