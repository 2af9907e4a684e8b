"""Generated logs with a known click probability: users browse, and requests show them candidates.

A seed defines one world (`scaling.synthetic.world`) and one endless sequence of training users and of test users
(`scaling.synthetic.users`). A larger `n_train` takes more users from the same sequence, so a smaller log is
contained in a larger one and has the same test part.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.atomic_files import atomic_folder
from scaling.store import EventStore, Feature, Schema, open_store
from scaling.synthetic.floor import excess_by_rank
from scaling.synthetic.log_writer import LogWriter, Piece
from scaling.synthetic.users import simulate_block
from scaling.synthetic.world import (
    ACTIONS,
    COMPONENTS,
    FIRST_ID,
    N_CATEGORIES,
    POSITIONS,
    PROFILE,
    Block,
    World,
    click_components,
    click_logit,
    draw_world,
    sigmoid,
)

__all__ = [
    "GENERATOR_VERSION",
    "SyntheticConfig",
    "build_world",
    "generate_logs",
    "synthetic_schema",
]


GENERATOR_VERSION = 2  # raise it whenever the same config gives another log
INTERCEPT = -1.25  # gives a base rate of about 0.3
_CALIBRATION_BLOCKS = 2


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of a generated log.

    Attributes:
        n_train: number of impressions in the training part.
        n_test: number of impressions in the test part, from other users.
        seed: seed of the world and of its users.
        n_items: number of items in the world.
        window: number of latest events on which a click may depend.
        warmup_events: median number of events before a user's first request.
    """

    n_train: int
    n_test: int = 8192
    seed: int = 0
    n_items: int = 10_000
    window: int = 128
    warmup_events: int = 80

    def __post_init__(self) -> None:
        """Refuse sizes that cannot make a log."""
        lowest = {
            "n_train": 1,
            "n_test": 1,
            "seed": 0,
            "n_items": 100,
            "window": 1,
            "warmup_events": 1,
        }
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")


def generate_logs(path: Path | str, config: SyntheticConfig) -> EventStore:
    """Generate the log of `config`, write it to the store at `path` and open it.

    The store's `truth` is `true_limits` of the stored probabilities in the test part; `source` holds the least
    excess logloss by rank (`scaling.synthetic.floor`). Memory does not grow with the number of impressions.

    Raises:
        UserError: `path` exists or cannot be written, or the training part is so small that it has only one class.
    """
    path = Path(path)
    with atomic_folder(path) as folder:
        world, blocks = _calibrated(config)
        floor = excess_by_rank(world, blocks)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            log = LogWriter(
                Path(temporary), synthetic_schema(config), config.n_train, config.n_test
            )
            for in_test, n in ((False, config.n_train), (True, config.n_test)):
                for piece in _pieces(world, config, n, in_test=in_test):
                    log.add(piece, in_test=in_test)
            log.write(folder, path, _source(config, floor))
    return open_store(path)


def build_world(config: SyntheticConfig) -> World:
    """Return the world of `config`; it does not depend on `n_train` and `n_test`."""
    return _calibrated(config)[0]


def synthetic_schema(config: SyntheticConfig) -> Schema:
    """Return the schema of a store generated from `config`."""
    sizes = {"item": config.n_items, "category": N_CATEGORIES, "action": len(ACTIONS)}
    sizes |= {"position": POSITIONS, "hour": 24} | PROFILE

    def features(*names: str) -> tuple[Feature, ...]:
        return tuple(Feature(name, name) for name in names)

    return Schema(
        behaviour=features("item", "category", "action"),
        candidate=features("item", "category"),
        context=features("position", "hour"),
        profile=features(*PROFILE),
        vocabularies={name: FIRST_ID + size for name, size in sizes.items()},
    )


def _source(config: SyntheticConfig, floor: Mapping[int, float]) -> dict[str, Any]:
    """Return what `dataset.json` states about the origin of a generated log."""
    return {
        "kind": "generated",
        "version": GENERATOR_VERSION,
        "config": asdict(config),
        "excess_logloss_by_rank": {str(rank): excess for rank, excess in floor.items()},
    }


def _calibrated(config: SyntheticConfig) -> tuple[World, list[Block]]:
    """Return the world of `config` and the blocks that its mean and scale are from."""
    world = draw_world(np.random.SeedSequence([config.seed, 2]), config.n_items, config.window)
    rng = np.random.default_rng([config.seed, 3])
    blocks = [simulate_block(world, config.warmup_events, rng) for _ in range(_CALIBRATION_BLOCKS)]
    raw = np.concatenate([click_components(world, block) for block in blocks])
    world = replace(world, mean=raw.mean(axis=0), scale=raw.std(axis=0), intercept=INTERCEPT)
    return world, blocks


def _pieces(world: World, config: SyntheticConfig, n: int, *, in_test: bool) -> Iterator[Piece]:
    """Simulate block after block until there are `n` impressions; the last block is cut."""
    weights = np.array(list(COMPONENTS.values()))
    number = 0
    while n > 0:
        # The random numbers of a block depend only on its number, so a longer log only adds blocks.
        seed = np.random.SeedSequence([config.seed, int(in_test), number])
        of_block, of_label = seed.spawn(2)
        block = simulate_block(world, config.warmup_events, np.random.default_rng(of_block))
        standard = world.standardised(block)
        p = sigmoid(click_logit(world, standard))
        label = np.random.default_rng(of_label).random(len(p)) < p
        yield Piece(_cut(block, n), (standard * weights)[:n], p[:n], label[:n])
        number += 1
        n -= len(p)


def _cut(block: Block, n: int) -> Block:
    """Return the first `n` impressions, and the events and profiles of their users."""
    if n >= len(block.user):
        return block
    n_users = int(block.user[n - 1]) + 1

    def first(columns: Mapping[str, Array], rows: int) -> dict[str, Array]:
        return {name: column[:rows] for name, column in columns.items()}

    n_events = int(block.offsets[n_users])
    return Block(
        offsets=block.offsets[: n_users + 1],
        event_time=block.event_time[:n_events],
        behaviours=first(block.behaviours, n_events),
        user=block.user[:n],
        time=block.time[:n],
        history_end=block.history_end[:n],
        request=block.request[:n],
        candidates=first(block.candidates, n),
        contexts=first(block.contexts, n),
        profiles=first(block.profiles, n_users),
    )
