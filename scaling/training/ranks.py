"""The processes that train one cell together, one for each device: what they add up, and what they agree on.

Every rank holds the whole model. Of each step's batch it reads a share, and the gradients of all shares are added up, so
that all ranks make the same update. Rank 0 leads: it alone owns the run's files. On GPUs gradients go through NCCL, all
else, and everything on CPUs, through gloo.

Not here: who starts the processes (`sweeps.dispatch`).
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.ctr_model import CTRModel
from scaling.atomic_files import write_json
from scaling.batches import Share
from scaling.errors import StorageError, UserError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

__all__ = ["ALONE", "RankLostError", "Ranks", "check_exactness", "joined_ranks"]


_POLL_SECONDS = 0.1
# How long word of another rank's end may take to be seen on a shared disk.
_SECONDS_FOR_WORD = 3.0
# How long all ranks have to start, which on a busy shared disk takes minutes.
_SECONDS_TO_MEET = 600.0
# Rank 0 may wait for a cell that another job trains for as long as it likes.
_AS_LONG_AS_IT_TAKES = timedelta(days=365)


class RankLostError(Exception):
    """Another rank of this cell has died or does not answer; the training cannot go on in this process."""


@dataclass(frozen=True)
class Ranks:
    """This process among the `size` processes that train a cell; all methods are called by all of them in the same order.

    Attributes:
        rank: 0 for the one that leads.
        size: number of processes.
        orders: the group for what rank 0 tells, which has no time limit.
        meeting: the file with rank 0's address; beside it a rank leaves word of why it ends.
    """

    rank: int = 0
    size: int = 1
    orders: Any = field(default=None, repr=False)
    meeting: Path | None = field(default=None, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this process owns the files of the run."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """Which part of each batch this process reads."""
        return Share(self.rank, self.size)

    def leave(self, failure: str, message: str) -> None:
        """Leave word of the error with which this rank ends; the others only see that it is gone."""
        if self.meeting is not None:
            with suppress(OSError, StorageError):
                write_json(_word_of(self.meeting, self.rank), [failure, message])

    def left(self) -> tuple[str, str] | None:
        """Return the class and the text of the error that another rank has left, if it had time to."""
        if self.meeting is None:
            return None
        deadline = time.monotonic() + _SECONDS_FOR_WORD
        while time.monotonic() < deadline:
            for rank in range(self.size):
                with suppress(OSError, ValueError):
                    failure, message = json.loads(_word_of(self.meeting, rank).read_text())
                    return failure, f"rank {rank}: {message}"
            time.sleep(_POLL_SECONDS)
        return None

    def told(self, value: Any) -> Any:
        """Return rank 0's value, plain JSON.

        Raises:
            RankLostError: rank 0 has died.
        """
        if self.size == 1:
            return value
        box = [json.dumps(value)]
        with _losses():
            dist.broadcast_object_list(box, 0, group=self.orders)
        return json.loads(box[0])

    def largest(self, value: int) -> int:
        """Return the largest value of all ranks.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        if self.size == 1:
            return value
        one = torch.tensor([value])
        with _losses():
            dist.all_reduce(one, dist.ReduceOp.MAX)
        return int(one)

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks of a tensor of the same shape on all of them.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        if self.size > 1:
            with _losses():
                dist.all_reduce(values)
        return values

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum the dense gradients of all ranks into those of each; a parameter without one counts as zero.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = self.add_up(torch.cat([grad.reshape(-1) for grad in grads]))
        sums = torch.split(flat, [grad.numel() for grad in grads])
        torch._foreach_copy_(
            grads, [one.view_as(grad) for one, grad in zip(sums, grads, strict=True)]
        )

    def add_sparse_gradient(self, table: Tensor) -> None:
        """Give each rank the rows of all ranks' gradients of a table [rows, d], in the order of the ranks.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        if self.size == 1:
            return
        if table.grad is None:
            rows = torch.empty(0, dtype=torch.int64, device=table.device)
            values = table.new_empty(0, table.shape[1])
        else:
            rows, values = table.grad._indices()[0], table.grad._values()
        rows, values = map(torch.cat, self.gathered_rows(rows, values))
        table.grad = torch.sparse_coo_tensor(
            rows.unsqueeze(0), values, table.shape, check_invariants=False
        )

    def exchange(self, values: Tensor, n_to: list[int], n_from: list[int]) -> Tensor:
        """Send the first `n_to[0]` of `values` [sum(n_to), ...] to rank 0, the next to rank 1, and so on.

        Return what came for this rank, `n_from[r]` from rank r, in the order of the ranks.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        received = values.new_empty(sum(n_from), *values.shape[1:])
        with _losses():
            dist.all_to_all_single(received, values.contiguous(), n_from, n_to)
        return received

    def swapped_counts(self, n_to: list[int]) -> list[int]:
        """Tell each rank how much this one will send it; return how much each will send this one.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        ones = [1] * self.size
        return self.exchange(torch.tensor(n_to), ones, ones).tolist()

    def heard(self, value: Any) -> list[Any]:
        """Return the values of all ranks, plain JSON.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        own = json.dumps(value)
        texts = [own] * self.size
        if self.size > 1:
            with _losses():
                dist.all_gather_object(texts, own)
        return [json.loads(text) for text in texts]

    def gathered_rows(self, *tensors: Tensor) -> list[list[Tensor]]:
        """Return for each tensor [n, ...] those of all ranks; n is the same for a rank's tensors, but not for all ranks.

        Raises:
            RankLostError: a rank has died or does not answer.
        """
        own = torch.tensor([len(tensors[0])], device=tensors[0].device)
        counts = [int(n) for n in self._gathered(own)]
        found = []
        for one in tensors:
            # gloo and NCCL gather equal shapes only
            padded = one.new_zeros(max(counts), *one.shape[1:])
            padded[: len(one)] = one
            found.append([part[:n] for part, n in zip(self._gathered(padded), counts, strict=True)])
        return found

    def _gathered(self, one: Tensor) -> list[Tensor]:
        found = [torch.empty_like(one) for _ in range(self.size)]
        with _losses():
            dist.all_gather(found, one)
        return found


ALONE = Ranks()


def check_exactness(model: CTRModel, ranks: Ranks) -> None:
    """Refuse a model whose numbers would depend on the number of ranks.

    Raises:
        UserError: a layer takes statistics over the rows of a batch, of which each rank sees a share.
    """
    if ranks.size == 1:
        return
    for name, module in model.encoder.named_modules():
        if "running_mean" in dict(module.named_buffers(recurse=False)):
            raise UserError(
                f"encoder.{name} ({type(module).__name__}) takes statistics over a batch, which {ranks.size} ranks would take over "
                "their shares, and the run would end with other numbers; train this model on one device"
            )


@contextmanager
def joined_ranks(
    rank: int, size: int, meeting: Path, device: str, *, answer_seconds: float
) -> Iterator[Ranks]:
    """Join the other ranks, and leave them at the end.

    Args:
        rank: of this process.
        size: number of processes.
        meeting: a file on a disk that all of them see, in which rank 0 writes its address; a name for each start of a job.
        device: of torch; NCCL is used beside gloo if it is a GPU.
        answer_seconds: a rank that does not take part in an exchange for so long counts as lost.

    Raises:
        UserError: the ranks do not meet, or this torch has no NCCL.
        RankLostError: out of the block, as the methods of `Ranks` do.
    """
    if not dist.is_available():
        raise UserError(
            f"{size} ranks need torch.distributed, which this torch ({torch.__version__}) lacks; install another build, or "
            "train on one device"
        )
    if device.startswith("cuda") and not dist.is_nccl_available():
        raise UserError(
            f"{size} ranks on GPUs need NCCL, which this torch ({torch.__version__}) lacks; install a build "
            "for CUDA on Linux, or ask for one GPU"
        )
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    try:
        store = _host(meeting, size) if rank == 0 else _visit(meeting, size)
        dist.init_process_group(
            backend,
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=answer_seconds),
        )
        orders = dist.new_group(backend="gloo", timeout=_AS_LONG_AS_IT_TAKES)
    except (RuntimeError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"rank {rank} of {size} on {socket.gethostname()} did not meet the others: {text}; check that the nodes "
            "reach each other by their host names (GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose the interface)"
        ) from error
    try:
        yield Ranks(rank, size, orders, meeting)
    finally:
        if rank == 0:
            for path in (meeting, *(_word_of(meeting, other) for other in range(size))):
                path.unlink(missing_ok=True)
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _word_of(meeting: Path, rank: int) -> Path:
    return meeting.with_name(f"{meeting.stem}-{rank}.json")


def _host(meeting: Path, size: int) -> "TCPStore":
    # builds of torch without torch.distributed lack it, and train alone
    from torch._C._distributed_c10d import TCPStore

    host = socket.gethostname()
    store = TCPStore(
        "0.0.0.0", 0, size, is_master=True, wait_for_workers=False,
        timeout=timedelta(seconds=_SECONDS_TO_MEET),
    )  # fmt: skip
    meeting.parent.mkdir(parents=True, exist_ok=True)
    write_json(meeting, {"host": host, "port": store.port, "pid": os.getpid()})
    return store


def _visit(meeting: Path, size: int) -> "TCPStore":
    """Connect to rank 0; its file may be missing for a while, or that of a start that has ended."""
    from torch._C._distributed_c10d import TCPStore

    deadline = time.monotonic() + _SECONDS_TO_MEET
    reason = f"{meeting}: rank 0 has not written its address"
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, KeyError):
            found = json.loads(meeting.read_text(encoding="utf-8"))
            host = found["host"] if found["host"] != socket.gethostname() else "127.0.0.1"
            try:
                return TCPStore(
                    host,
                    found["port"],
                    size,
                    is_master=False,
                    wait_for_workers=False,
                    timeout=timedelta(seconds=10),
                )
            except RuntimeError as error:
                reason = str(error)
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(reason)


@contextmanager
def _losses() -> Iterator[None]:
    """Turn what gloo and NCCL raise if a rank is gone into one error."""
    try:
        yield
    except RuntimeError as error:
        text = re.sub(r"\[[^]]*\.(cc|cpp|h):\d+\] *", "", " ".join(str(error).split()))
        first = re.split(r"[.:] |\. ?$", text)[0][:200]
        raise RankLostError(f"another rank has ended or does not answer ({first})") from error
