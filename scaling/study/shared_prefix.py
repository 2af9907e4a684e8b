"""Runs that can share one training: those that differ only in their data size. Needs no torch."""

from collections.abc import Iterable, Sequence

from scaling.study.batch_growth import batch_phases, samples_seen
from scaling.study.run_config import RunConfig

__all__ = ["group_runs", "lease_key", "trained_samples"]


def lease_key(config: RunConfig, share_prefix: bool) -> str:
    """Return the name of the folder with the run's attempts and checkpoints.

    It is the run's own folder, or with `share_prefix` the folder of its trajectory. A `PlannedCell` has
    it as `key`, and `group_runs` returns it.
    """
    return f"trajectory-{config.trajectory}" if share_prefix else config.signature


def group_runs(
    configs: Iterable[RunConfig], share_prefix: bool
) -> dict[str, tuple[RunConfig, ...]]:
    """Return the runs that are trained together, by their lease key.

    Groups are in the order of first appearance, runs within a group from the smallest data size up.
    """
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        groups.setdefault(lease_key(config, share_prefix), []).append(config)
    return {key: tuple(sorted(g, key=lambda c: c.n_samples)) for key, g in groups.items()}


def trained_samples(configs: Sequence[RunConfig]) -> int:
    """Return how many impressions the training steps of a group see; for packed runs, to within a batch.

    All runs follow the path of the largest one. A smaller run leaves it when its own learning rate starts
    to cool down, or after its last whole batch, and then sees the rest of its samples separately.
    """
    *smaller, largest = sorted(configs, key=lambda config: config.n_samples)
    return largest.n_samples + sum(_own_samples(config) for config in smaller)


def _own_samples(config: RunConfig) -> int:
    epoch = (config.n_samples, config.batch_size, config.batch_schedule)
    shared = config.n_steps
    if config.schedule == "decay":
        shared = min(shared, shared // 2 + 1)
    elif (
        samples_seen(shared, *epoch) - samples_seen(shared - 1, *epoch)
        < batch_phases(*epoch)[-1].batch_size
    ):
        shared -= 1
    return config.n_samples - samples_seen(shared, *epoch)
