"""A feature table whose rows are divided among the ranks of a cell, for tables that do not fit one device.

Row g is on rank g % R, as its row g // R, so that the frequent rows of all features are spread. Before a step each rank
fetches the distinct rows of its share of the batch from their owners; all parts of the batch, and a teacher that shares
the table, look them up in what was fetched. After the step the gradients go back to the owners, whose lazy Adam updates
their rows. So there are two exchanges a step, whatever the number of parts, and none inside the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.ctr_model import Batch
from models.embeddings import FeatureEmbeddings
from models.input_schema import InputSchema
from scaling.batches import Share
from scaling.study import RunConfig
from scaling.training.ranks import Ranks

__all__ = ["ShardedEmbeddings", "is_table_sharded", "random_rows", "table_type"]


# Rows of a table that are drawn, or gathered, at once. A multiple of 16: torch draws normal numbers in blocks of 16.
_CHUNK = 2**16


class ShardedEmbeddings(FeatureEmbeddings):
    """This rank's rows of the table [1 + sum(vocabulary sizes - 1), d].

    Attributes:
        weight: the rows that this rank owns, every R-th, [~n / R, d]; its gradient is there after `return_gradients`.
    """

    def __init__(self, schema: InputSchema, own_rows: Tensor, ranks: Ranks) -> None:
        """Start from the rows of `ranks.share`."""
        nn.Module.__init__(self)
        self.n_rows = self._lay_out(schema)
        self.weight = nn.Parameter(own_rows)
        self._ranks = ranks
        self._fetched_rows = self._fetched = self._scratch = torch.empty(0)

    def fetch(self, parts: Sequence[Batch]) -> None:
        """Get the rows that the parts of this rank's share may look up; all ranks call it, also one with no part.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        device, weight = self.weight.device, self.weight
        rows = [torch.zeros(1, dtype=torch.int64, device=device)]  # padding is always there
        for part in parts:
            groups = {
                "behaviour": part.behaviours,
                "candidate": part.candidate,
                "context": part.context,
                "profile": part.profile,
            }
            rows += [self.rows(group, ids).reshape(-1) for group, ids in groups.items()]
        self._fetched_rows = torch.unique(torch.cat(rows))
        route = self._route(self._fetched_rows)
        found = self._ranks.exchange(weight.detach()[route.asked], route.n_from, route.n_to)
        self._fetched = torch.empty_like(found).index_copy_(0, route.order, found)
        if weight.requires_grad and torch.is_grad_enabled():
            self._fetched.requires_grad_(True)
        self._scratch = torch.empty(len(found), dtype=torch.int64, device=device)

    def return_gradients(self) -> None:
        """Give the gradients of the rows that were looked up to their owners; all ranks call it.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        grad = self._fetched.grad
        places, sums = self._fetched_rows[:0], self._fetched.detach()[:0]
        if grad is not None:
            # those of several parts are concatenated
            places, inverse = torch.unique(grad._indices()[0], return_inverse=True)
            values = grad._values()
            sums = values.new_zeros(len(places), values.shape[1]).index_add_(0, inverse, values)
        route = self._route(self._fetched_rows[places])
        received = self._ranks.exchange(sums[route.order], route.n_to, route.n_from)
        # a row of several ranks occurs several times, in the order of the ranks
        self.weight.grad = torch.sparse_coo_tensor(
            route.asked.unsqueeze(0), received, self.weight.shape, check_invariants=False
        )

    def whole(self) -> Tensor | None:
        """Return all rows [n, d] in the memory of the host of rank 0, None on the others; all ranks call it."""
        ranks = self._ranks
        table = torch.empty(self.n_rows, self.weight.shape[1]) if ranks.leads else None
        n_longest = -(-self.n_rows // ranks.size)
        for start in range(0, n_longest, _CHUNK):
            own = self.weight.detach()[start : start + _CHUNK].cpu()
            for rank, rows in enumerate(ranks.gathered_rows(own)[0]):
                if table is not None:
                    share = Share(rank, ranks.size).of(table)
                    share[start : start + len(rows)] = rows
        return table

    def _places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that were fetched, and where they have these."""
        return self._fetched, torch.searchsorted(self._fetched_rows, rows)

    def _route(self, rows: Tensor) -> "_Route":
        """Tell the owners of distinct rows which of theirs this rank means."""
        size = self._ranks.size
        owner = rows % size
        order = owner.argsort(stable=True)
        n_to = owner.bincount(minlength=size).tolist()
        n_from = self._ranks.swapped_counts(n_to)
        asked = self._ranks.exchange(rows[order] // size, n_to, n_from)
        return _Route(order, asked, n_to, n_from)


@dataclass(frozen=True)
class _Route:
    """Between the ranks that use rows and those that own them.

    Attributes:
        order: the places of this rank's rows, sorted by owner.
        asked: the rows of its own table that the others use, rank by rank.
        n_to: how many of its rows each rank owns.
        n_from: how many rows each rank uses of its table.
    """

    order: Tensor
    asked: Tensor
    n_to: list[int]
    n_from: list[int]


def table_type(ranks: Ranks) -> Callable[[InputSchema, int, float], ShardedEmbeddings]:
    """Return what builds a divided table, with the numbers of an undivided one of the same seed."""

    def build(schema: InputSchema, d: int, std: float) -> ShardedEmbeddings:
        n_rows = 1 + sum(size - 1 for size in schema.vocabularies.values())
        own = random_rows(n_rows, d, ranks.share).mul_(std)
        if ranks.leads:
            own[0] = 0
        return ShardedEmbeddings(schema, own, ranks)

    return build


def random_rows(n_rows: int, d: int, share: Share) -> Tensor:
    """Return a share of the rows of `torch.randn(n_rows, d)`, without the others in memory."""
    own = torch.empty(len(range(share.number, n_rows, share.count)), d)
    start = 0
    while start < n_rows:
        # a rest of less than 16 numbers would be drawn in another way
        stop = n_rows if n_rows - start < 2 * _CHUNK else start + _CHUNK
        rows = torch.randn(stop - start, d)
        first = (share.number - start) % share.count
        chosen = rows[first :: share.count]
        place = (start + first) // share.count
        own[place : place + len(chosen)] = chosen
        start = stop
    return own


def is_table_sharded(
    config: RunConfig,
    schema: InputSchema,
    device: str,
    ranks: Ranks,
    device_memory_gib: float | None,
) -> bool:
    """Whether the ranks divide the feature table of a run: if it would take over half of a device.

    Args:
        config: of the run.
        schema: of its data.
        device: of torch.
        ranks: the processes that train it.
        device_memory_gib: `[run] device_memory_gib`; None: the memory of rank 0's GPU; on cores the table stays whole.

    Raises:
        RankLostError: rank 0 has died.
    """
    if ranks.size == 1:
        return False
    memory = None if device_memory_gib is None else device_memory_gib * 2**30
    if memory is None and device.startswith("cuda"):
        memory = ranks.told(torch.cuda.mem_get_info(device)[1])
    return memory is not None and config.held_size(schema).is_sharded(memory)
