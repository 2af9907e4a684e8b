"""Generated logs with a known click probability: users browse, and requests show them candidates.

A seed defines one world (`scaling.synthetic.world`) and one endless sequence of training users and of test users
(`scaling.synthetic.users`). A larger `n_train` takes more users from the same sequence, so a smaller log is
contained in a larger one and has the same test part.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.metrics import true_limits
from scaling.store import Events, EventStore, Feature, Impressions, Schema, write_store
from scaling.synthetic.users import simulate_block
from scaling.synthetic.world import (
    ACTIONS,
    FIRST_ID,
    N_CATEGORIES,
    POSITIONS,
    PROFILE,
    Block,
    World,
    click_components,
    draw_world,
)

__all__ = [
    "GENERATOR_VERSION",
    "SyntheticConfig",
    "build_world",
    "generate_logs",
    "synthetic_schema",
]


GENERATOR_VERSION = 1  # raise it whenever the same config gives another log
INTERCEPT = -1.25  # gives a base rate of about 0.3


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


@dataclass(frozen=True)
class Piece:
    """A block of users with its clicks, cut to the number of impressions needed."""

    block: Block
    probability: Array
    label: Array
    in_test: bool


def generate_logs(path: Path | str, config: SyntheticConfig) -> EventStore:
    """Generate the log of `config`, write it to the store at `path` and open it.

    The store's `truth` is `true_limits` of the stored probabilities in the test part.

    Raises:
        UserError: `path` exists or cannot be written, or the training part is so small that it has only one class.
    """
    if Path(path).exists():
        raise UserError(f"{path}: already exists; choose another folder or remove this one first")
    world = build_world(config)
    pieces = [
        *_pieces(world, config, config.n_train, in_test=False),
        *_pieces(world, config, config.n_test, in_test=True),
    ]
    p = np.concatenate([piece.probability for piece in pieces if piece.in_test])
    events, impressions, profiles = _joined(pieces)
    return write_store(
        path,
        synthetic_schema(config),
        events,
        impressions,
        profiles,
        n_users=len(profiles["age"]),
        split={"kind": "user"},
        source={"kind": "generated", "version": GENERATOR_VERSION, "config": asdict(config)},
        truth=true_limits(p.astype(np.float32)),
    )


def build_world(config: SyntheticConfig) -> World:
    """Return the world of `config`; it does not depend on `n_train` and `n_test`."""
    world = draw_world(np.random.SeedSequence([config.seed, 2]), config.n_items, config.window)
    block = simulate_block(world, config.warmup_events, np.random.default_rng([config.seed, 3]))
    raw = click_components(world, block)
    return replace(world, mean=raw.mean(axis=0), scale=raw.std(axis=0), intercept=INTERCEPT)


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


def _pieces(world: World, config: SyntheticConfig, n: int, *, in_test: bool) -> Iterator[Piece]:
    """Simulate block after block until there are `n` impressions; the last block is cut."""
    number = 0
    while n > 0:
        # The random numbers of a block depend only on its number, so a longer log only adds blocks.
        seed = np.random.SeedSequence([config.seed, int(in_test), number])
        of_block, of_label = seed.spawn(2)
        block = simulate_block(world, config.warmup_events, np.random.default_rng(of_block))
        p = world.probability(block)
        label = np.random.default_rng(of_label).random(len(p)) < p
        yield Piece(_cut(block, n), p[:n], label[:n], in_test)
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


def _joined(pieces: list[Piece]) -> tuple[Events, Impressions, dict[str, Array]]:
    """Return the rows of all pieces, with users numbered consecutively."""
    blocks = [piece.block for piece in pieces]
    base = np.cumsum([0, *(len(block.offsets) - 1 for block in blocks)])

    def joined(group: str) -> dict[str, Array]:
        return {
            name: np.concatenate([getattr(block, group)[name] for block in blocks])
            for name in getattr(blocks[0], group)
        }

    events = Events(
        user=np.repeat(np.arange(base[-1]), np.concatenate([np.diff(b.offsets) for b in blocks])),
        time=np.concatenate([block.event_time for block in blocks]),
        features=joined("behaviours"),
    )
    impressions = Impressions(
        user=np.concatenate([b.user + start for b, start in zip(blocks, base, strict=False)]),
        time=np.concatenate([block.time for block in blocks]),
        label=np.concatenate([piece.label for piece in pieces]),
        in_test=np.concatenate([np.full(len(p.label), p.in_test) for p in pieces]),
        candidates=joined("candidates"),
        contexts=joined("contexts"),
        probability=np.concatenate([piece.probability for piece in pieces]),
    )
    return events, impressions, joined("profiles")
