"""A model in training: its optimisers, learning rate and dropout, and their state in a checkpoint."""

from typing import Any

import torch

from models.ctr_model import CTRModel
from models.embeddings import FeatureEmbeddings
from models.kinds.building import build_model
from scaling.batches import order_key
from scaling.store import EventStore
from scaling.study import GRADIENT_CLIP, RunConfig
from scaling.training.checkpoint import flatten, unflatten
from scaling.training.optimisers import build_optimisers
from scaling.training.ranks import ALONE, Ranks
from scaling.training.sharded_table import ShardedEmbeddings, table_type

__all__ = ["Learner"]


# In a saved state, what has a row for each row of the feature table: values, and the moments of lazy Adam.
_OF_ROWS = (
    "model.embeddings.weight",
    "optimisers.1.state.0.exp_avg",
    "optimisers.1.state.0.exp_avg_sq",
)


class Learner:
    """The model of a run that is trained alone, or one of the two of a distilled run.

    Initialisation and dropout have seeds of their own, both drawn from the config's.
    """

    def __init__(
        self,
        config: RunConfig,
        store: EventStore,
        device: str,
        *,
        model: CTRModel | None = None,
        table_of: CTRModel | None = None,
        ranks: Ranks = ALONE,
        sharded: bool = False,
    ) -> None:
        """Start at step 0.

        Args:
            config: of a run that trains only this model.
            store: the data.
            device: of torch.
            model: a trained model to continue from; None: from scratch.
            table_of: the model whose feature table this one shares without training it.
            ranks: the processes that train it together.
            sharded: whether they divide the feature table; that of `model` is divided already.
        """
        self.model = model or build_model(
            config.grade,
            config.model,
            store.schema,
            base_rate=store.base_rate["train"],
            seed=order_key("init", config.seed) % 2**63,
            embeddings=table_type(ranks) if sharded else FeatureEmbeddings,
        )
        self.model.to(device)
        self._shares = table_of is not None
        if table_of is not None:
            self.model.embeddings = table_of.embeddings
        # several ranks must not drop the same places of different rows
        own = (ranks.rank,) if ranks.rank else ()
        self._seed = order_key("dropout", config.seed, *own) % 2**63
        self._generator = torch.Generator(device).manual_seed(self._seed)
        self.model.encoder.dropout_generator = self._generator
        dense, table = build_optimisers(self.model)
        self._optimisers = (
            [(dense, 1.0)]
            if self._shares
            else [(dense, 1.0), (table, config.table_rate / config.learning_rate)]
        )
        self._dense: list[torch.Tensor] = dense.param_groups[0]["params"]
        self._peak, self._ranks = config.learning_rate, ranks

    def begin_step(self, factor: float, step: int) -> None:
        """Clear the gradients and set the learning rates to `factor` times their peaks; `step` counts from 0."""
        if self._ranks.size > 1:
            # anew at each step, since a checkpoint holds the state of rank 0 alone
            self._generator.manual_seed(order_key("dropout", self._seed, step) % 2**63)
        rate = self._peak * factor
        for optimiser, multiple in self._optimisers:
            optimiser.param_groups[0]["lr"] = rate * multiple
            optimiser.zero_grad()

    def end_step(self) -> None:
        """Update the parameters from their gradients, those of all ranks together."""
        self._ranks.add_gradients(self._dense)
        if not self._shares:
            if isinstance(self.model.embeddings, ShardedEmbeddings):
                self.model.embeddings.return_gradients()
            else:
                self._ranks.add_sparse_gradient(self.model.embeddings.weight)
        torch.nn.utils.clip_grad_norm_(self._dense, GRADIENT_CLIP, foreach=True)
        for optimiser, _ in self._optimisers:
            optimiser.step()

    def save(self, prefix: str, tensors: dict[str, torch.Tensor]) -> Any:
        """Add the state's tensors to `tensors`, with names that begin with `prefix`; return the rest as JSON."""
        own = {n: v for n, v in self.model.state_dict().items() if not self._is_shared(n)}
        tensors |= {f"{prefix}model.{name}": value for name, value in own.items()}
        tensors[f"{prefix}generator"] = self._generator.get_state()
        states = [optimiser.state_dict() for optimiser, _ in self._optimisers]
        return flatten(states, f"{prefix}optimisers", tensors)

    def row_names(self, prefix: str) -> list[str]:
        """Names of the saved tensors that hold only this rank's rows of a table that this learner trains."""
        if self._shares or not isinstance(self.model.embeddings, ShardedEmbeddings):
            return []
        return [f"{prefix}{name}" for name in _OF_ROWS]

    def load(self, prefix: str, tensors: dict[str, torch.Tensor], rest: Any) -> None:
        """Continue from a state written by `save`; the owner of a shared table loads it."""
        start = f"{prefix}model."
        own = {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
        shared = {n: v for n, v in self.model.state_dict().items() if self._is_shared(n)}
        self.model.load_state_dict(own | shared)
        state = tensors[f"{prefix}generator"]
        # after a forced change of device the generator starts again
        if state.shape == self._generator.get_state().shape:
            self._generator.set_state(state)
        for (optimiser, _), kept in zip(self._optimisers, unflatten(rest, tensors), strict=True):
            optimiser.load_state_dict(kept)

    def _is_shared(self, name: str) -> bool:
        return self._shares and name.startswith("embeddings.")
