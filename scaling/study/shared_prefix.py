"""Runs that one training serves: those that differ in their data size alone. Free of torch."""

import math
from collections.abc import Iterable, Sequence

from scaling.study.run_config import RunConfig

__all__ = ["group_runs", "lease_key", "trained_samples"]


def lease_key(config: RunConfig, share_prefix: bool) -> str:
    """Return the folder of the run's attempts and checkpoints: its own, or its trajectory's."""
    return f"trajectory-{config.trajectory}" if share_prefix else config.signature


def group_runs(
    configs: Iterable[RunConfig], share_prefix: bool
) -> tuple[tuple[RunConfig, ...], ...]:
    """Return what one process trains at a time, in the order of first appearance; smallest size first."""
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        groups.setdefault(lease_key(config, share_prefix), []).append(config)
    return tuple(tuple(sorted(g, key=lambda c: c.n_samples)) for g in groups.values())


def trained_samples(configs: Sequence[RunConfig]) -> int:
    """Return the impressions that a group's training steps see.

    The largest run is the common path. Each other one leaves it where its rate cools down, or at its last
    whole batch, and sees the rest of its own samples beside it. (Packed runs: to within a batch.)
    """
    *smaller, largest = sorted(configs, key=lambda config: config.n_samples)
    return largest.n_samples + sum(_own_samples(config) for config in smaller)


def _own_samples(config: RunConfig) -> int:
    shared = config.n_samples // config.batch_size
    if config.schedule == "decay":
        shared = min(shared, math.ceil(config.n_samples / config.batch_size) // 2 + 1)
    return config.n_samples - shared * config.batch_size
