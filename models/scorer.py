"""Serving: encode a user's history once, then score any number of candidates against it in one pass.

Needs this package, torch, numpy and safetensors, and nothing that trains. docs/serving.md has an example.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.compiled_scoring import load_scoring
from models.config import InputSchema, SuanOptions
from models.grades import Grade
from models.suan import SUAN
from models.user_state import UserState, encode_user, score_candidates

__all__ = ["Candidates", "History", "SchemaError", "Scorer", "UserState"]


class SchemaError(ValueError):
    """Arrays that are not of the features that the model was trained on; one line says which."""


@dataclass(frozen=True)
class History:
    """A user before a request.

    Attributes:
        behaviours: ids by feature [L], oldest first; of more than the model's L the latest are read.
        times: unix seconds [L].
        profile: an id by feature.
    """

    behaviours: Mapping[str, ArrayLike]
    times: ArrayLike
    profile: Mapping[str, ArrayLike] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """What a request may show.

    Attributes:
        features: ids by feature [M].
        time: unix seconds of the request.
        context: ids by feature, [M] or one for all.
        numeric: floats by feature, [M] or one for all.
    """

    features: Mapping[str, ArrayLike]
    time: int
    context: Mapping[str, ArrayLike] = field(default_factory=dict)
    numeric: Mapping[str, ArrayLike] = field(default_factory=dict)


class Scorer:
    """Scores candidates with a trained model; each as if it were alone.

    Attributes:
        model: in evaluation mode.
    """

    def __init__(self, model: SUAN, schema: InputSchema, utc_offset_seconds: int = 0) -> None:
        """Wrap a model.

        Args:
            model: on the device that is to score.
            schema: the features that it was built for.
            utc_offset_seconds: of the log's own zone, for the hour of the day.

        Raises:
            ValueError: the model's encoding of a history depends on the candidate.
        """
        if model.options.fusion == "dual" and model.options.pooling == "all":
            raise ValueError(
                'with pooling = "all" a history\'s encoding depends on the candidate and cannot be shared; '
                'train with pooling = "behaviours" or "running"'
            )
        self.model = model.eval()
        self._schema, self._utc_offset = schema, utc_offset_seconds
        self._compiled: Any = None

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> "Scorer":
        """Read the model that a finished run kept: its `model.safetensors`, or its folder.

        Raises:
            OSError: there is no such file.
            ValueError: it is no model of this version, or its histories cannot be shared.
        """
        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        try:
            with safe_open(path, "pt") as opened:
                facts = {key: json.loads(value) for key, value in opened.metadata().items()}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            schema = _Schema.from_document(facts["schema"])
            model = SUAN(Grade(**facts["grade"]), SuanOptions(**facts["options"]), schema)
            model.load_state_dict(tensors)
        except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{path}: not a model of this version: {error}") from error
        return cls(model.to(torch.device(device)), schema, facts.get("utc_offset_seconds", 0))

    @torch.inference_mode()
    def encode(self, history: History) -> UserState:
        """Encode a user's history, once for all requests until it changes.

        Raises:
            SchemaError: its arrays are not of the model's features.
        """
        max_len = self.model.grade.max_len
        times = np.atleast_1d(np.asarray(history.times, np.int64))
        behaviours = self._stack("behaviour", history.behaviours, len(times))
        profile = self._stack("profile", history.profile, 1)[0]
        seconds = self._tensor(times[-max_len:])
        hours = self._hours(seconds)
        ids = self._tensor(behaviours[-max_len:]), self._tensor(profile)
        return encode_user(self.model, ids[0], seconds, hours, ids[1])

    def score(self, state: UserState, candidates: Candidates) -> NDArray[np.float64]:
        """Return the click probabilities of the candidates [M].

        Raises:
            SchemaError: their arrays are not of the model's features.
        """
        probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-self.logits(state, candidates)))
        return probabilities

    @torch.inference_mode()
    def logits(self, state: UserState, candidates: Candidates) -> NDArray[np.float64]:
        """Return the logits of the candidates [M].

        Raises:
            SchemaError: their arrays are not of the model's features.
        """
        n_candidates = max((np.size(ids) for ids in candidates.features.values()), default=0)
        ids = self._stack("candidate", candidates.features, n_candidates)
        context = self._stack("context", candidates.context, n_candidates)
        numeric = self._stack_numeric(candidates.numeric, n_candidates)
        time = self._tensor(np.array([candidates.time]))
        request = time, self._hours(time)
        features = self._tensor(ids), self._tensor(context)
        numbers = self._tensor(numeric).to(self.model.embeddings.weight.dtype)
        if self._compiled is not None and min(n_candidates, len(state.key_times)) > 1:
            logits = self._compiled(request, features, numbers, state.tensors)
        else:
            logits = score_candidates(self.model, state, request, features, numbers)
        scores: NDArray[np.float64] = logits.double().cpu().numpy()
        return scores

    def use_compiled(self, path: Path | str) -> None:
        """Score with what `models.compiled_scoring.compile_scoring` wrote for this model on such a machine.

        Requests of one candidate, and users with fewer than two behaviours, are scored as before.
        """
        self._compiled = load_scoring(path)

    def _hours(self, seconds: Tensor) -> Tensor:
        """Hour of the day plus one, as `scaling.loader` gives it."""
        return (seconds + self._utc_offset) // 3600 % 24 + 1

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.tensor(array, device=self.model.embeddings.weight.device)

    def _stack(self, group: str, arrays: Mapping[str, ArrayLike], n_rows: int) -> NDArray[np.int64]:
        """Stack a group's ids [rows, features] in the model's order; a single id stands for all rows."""
        features: Any = getattr(self._schema, group)
        names = [feature.name for feature in features]
        _check_names(group, names, arrays)
        ids = np.empty((n_rows, len(names)), np.int64)
        for column, feature in enumerate(features):
            values = np.asarray(arrays[feature.name])
            size = self._schema.vocabularies[feature.vocabulary]
            _check_values(f"{group} {feature.name}", values, n_rows, "iu", "ids")
            if values.size and not 0 <= values.min() <= values.max() < size:
                raise SchemaError(
                    f"{group} {feature.name}: ids from {values.min()} to {values.max()}, but its vocabulary "
                    f"has 0 to {size - 1}"
                )
            ids[:, column] = values
        return ids

    def _stack_numeric(self, arrays: Mapping[str, ArrayLike], n_rows: int) -> NDArray[np.float32]:
        names = list(self._schema.numeric)
        _check_names("numeric", names, arrays)
        stacked = np.empty((n_rows, len(names)), np.float32)
        for column, name in enumerate(names):
            values = np.asarray(arrays[name])
            _check_values(f"numeric {name}", values, n_rows, "iuf", "numbers")
            stacked[:, column] = values
        return stacked


def _check_names(group: str, names: list[str], arrays: Mapping[str, ArrayLike]) -> None:
    if set(arrays) != set(names):
        told = [", ".join(some) or "none" for some in (names, arrays)]
        raise SchemaError(f"{group}: this model reads the features {told[0]}; given are {told[1]}")


def _check_values(where: str, values: NDArray[Any], n_rows: int, kinds: str, what: str) -> None:
    fits = values.ndim == 0 or values.shape == (n_rows,) or values.shape == (1,)
    if not fits or (values.size and values.dtype.kind not in kinds):
        shape = " x ".join(map(str, values.shape)) or "one value"
        raise SchemaError(f"{where}: {values.dtype} ({shape}), expected {n_rows} {what}")


class _Feature(NamedTuple):
    name: str
    vocabulary: str


class _Schema(NamedTuple):
    """The features as a model's file names them, in the order of its tables."""

    behaviour: tuple[_Feature, ...]
    candidate: tuple[_Feature, ...]
    context: tuple[_Feature, ...]
    profile: tuple[_Feature, ...]
    numeric: tuple[str, ...]
    vocabularies: dict[str, int]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "_Schema":
        names = ("behaviour", "candidate", "context", "profile")
        groups = {name: tuple(_Feature(**one) for one in document[name]) for name in names}
        numeric, vocabularies = tuple(document["numeric"]), dict(document["vocabularies"])
        return cls(**groups, numeric=numeric, vocabularies=vocabularies)
