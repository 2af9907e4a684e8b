"""Copies of runs in the trackers that teams use: TensorBoard, MLflow, W&B offline. Needs no torch.

The folder of runs stays the truth: a mirror is made from its files and can be made again.
Not here: the runs table and its export (`analysis.table`).
"""

from scaling.mirrors.mirroring import Counts, mirror_runs
from scaling.mirrors.run_facts import RunFacts, read_facts
from scaling.mirrors.trackers import TRACKERS, Mirror, Mirrored, open_mirror

__all__ = [
    "TRACKERS",
    "Counts",
    "Mirror",
    "Mirrored",
    "RunFacts",
    "mirror_runs",
    "open_mirror",
    "read_facts",
]
