"""Serving: encode a user's history once, then score any number of candidates against it in one pass.

Needs this package, torch, numpy and safetensors, and nothing that trains. docs/serving.md has an example.
"""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.ctr_model import CTRModel
from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds import ModelError
from models.kinds.building import empty_model
from models.model_options import EncoderOptions, ModelOptions, SuanOptions
from models.scoring.compiled_scoring import MOST_CANDIDATES, load_scoring
from models.scoring.kept_history import KeptHistory, keep_history, score_together
from models.scoring.request import Candidates, History, SchemaError, read_candidates, read_history
from models.scoring.user_state import UserState, encode_user, fingerprint, score_candidates
from models.suan import SUAN

__all__ = ["Scorer"]


# Metadata in a model's file beside its parameters.
_TOLD = ("grade", "options", "schema")


class Scorer:
    """Scores candidates with a trained model; each as if it were alone.

    Attributes:
        model: in evaluation mode.
    """

    def __init__(self, model: CTRModel, schema: InputSchema, utc_offset_seconds: int = 0) -> None:
        """Wrap a model.

        Args:
            model: on the device that will score.
            schema: the features that it was built for.
            utc_offset_seconds: of the log's time zone, for the hour of the day.

        Raises:
            ValueError: the model's encoding of a history depends on the candidate.
            SchemaError: the model was built for another schema.
        """
        if not model.embeddings.is_of(schema):
            raise SchemaError(
                "schema: not the one that the model was built for (other features, their order, or sizes of "
                "vocabularies)"
            )
        if "request" not in model.encoder.packing(model.options):
            raise ValueError(
                f"a history's encoding by this {type(model.encoder).__name__} depends on the candidate and cannot be "
                f"shared: {model.encoder.packing_needs}"
            )
        self.model = model.eval()
        self._schema, self._utc_offset = schema, utc_offset_seconds
        self._fingerprint = fingerprint(model)
        self._compiled: Any = None

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> "Scorer":
        """Read the saved model of a finished run, from `model.safetensors` or from the run's folder.

        Raises:
            OSError: there is no such file, or it cannot be read.
            ValueError: it is no model of this version, its histories cannot be shared, or there is no such device.
        """
        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no such file; give the folder of a finished run, or its model.safetensors"
            )
        try:
            with safe_open(path, "pt") as opened:
                header = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            # earlier versions wrote an entry for each fact
            told = json.loads(header["facts"]) if "facts" in header else None
            if missing := [name for name in _TOLD if name not in (told or header)]:
                raise ValueError(f"its header has no {', '.join(missing)}")
            facts = told or {name: json.loads(text) for name, text in header.items()}
            utc_offset_seconds = int(facts.get("utc_offset_seconds", 0))
            schema = _Schema.from_document(facts["schema"])
            grade = Grade(**facts["grade"])
            if grade.n_layers > len(
                tensors
            ):  # a model of billions of layers would be built for hours
                raise ValueError(f"{grade.n_layers:,} layers, but {len(tensors)} tensors")
            model = empty_model(grade, _options(facts["options"]), schema)
            model.load_state_dict(tensors)
        except OSError as error:
            raise OSError(f"{path}: cannot be read: {error}") from error
        except ModelError as error:
            raise ValueError(f"{path}: {error}") from error
        except (
            SafetensorError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RuntimeError,
        ) as error:
            raise ValueError(
                f"{path}: not a model of this version: {_line(error)}; expected what `scaling run` keeps"
            ) from error
        try:
            torch.empty(1, device=device).item()  # a device without data, such as meta, fails here
            model = model.to(torch.device(device))
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
            raise ValueError(
                f"device {device}: expected cpu, or a GPU that torch finds, e.g. cuda: {_line(error)}"
            ) from error
        return cls(model, schema, utc_offset_seconds)

    @torch.inference_mode()
    def encode(self, history: History) -> UserState | KeptHistory:
        """Encode a user's history, once for all requests until it changes.

        A SUAN's encoding is kept; other encoders read the history again, once for all candidates of a request.

        Raises:
            SchemaError: its arrays are not of the model's features.
        """
        max_len = self.model.grade.max_len
        rows = read_history(self._schema, history)
        seconds = self._tensor(rows.times[-max_len:])
        ids = self._tensor(rows.behaviours[-max_len:]), self._tensor(rows.profile)
        hours = self._hours(seconds)
        if not self.caches:
            return keep_history(ids[0], seconds, hours, ids[1], self._fingerprint)
        return encode_user(self.model, ids[0], seconds, hours, ids[1], self._fingerprint)

    @property
    def caches(self) -> bool:
        """Whether `encode` does the work on the history, so that requests do not repeat it."""
        return isinstance(self.model.encoder, SUAN)

    def score(self, state: UserState | KeptHistory, candidates: Candidates) -> NDArray[np.float64]:
        """Return the click probabilities of the candidates [M].

        Raises:
            SchemaError: their arrays are not of the model's features, or the state is another model's.
        """
        probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-self.logits(state, candidates)))
        return probabilities

    @torch.inference_mode()
    def logits(self, state: UserState | KeptHistory, candidates: Candidates) -> NDArray[np.float64]:
        """Return the logits of the candidates [M].

        Raises:
            SchemaError: their arrays are not of the model's features, or the state is another model's.
        """
        if not isinstance(state, UserState | KeptHistory):
            raise SchemaError(f"state: {type(state).__name__}, expected what `encode` returned")
        if state.model != self._fingerprint:
            raise SchemaError(
                "state: of another model; encode the history with the one that scores"
            )
        device = self.model.embeddings.weight.device
        if state.profile.device != device:
            raise SchemaError(f"state: on {state.profile.device}, but the model is on {device}")
        rows = read_candidates(self._schema, candidates)
        n_candidates = len(rows.features)
        if n_candidates == 0:
            return np.empty(0)
        time = self._tensor(rows.time)
        request = time, self._hours(time)
        features = self._tensor(rows.features), self._tensor(rows.context)
        numbers = self._tensor(rows.numeric).to(self.model.embeddings.weight.dtype)
        if isinstance(state, KeptHistory):
            logits = score_together(self.model, state, request, features, numbers)
            return logits.double().cpu().numpy()
        fits = 1 < n_candidates <= MOST_CANDIDATES and len(state.key_times) > 1
        if self._compiled is not None and fits:
            logits = self._compiled(request, features, numbers, state.tensors)
        else:
            logits = score_candidates(self.model, state, request, features, numbers)
        scores: NDArray[np.float64] = logits.double().cpu().numpy()
        return scores

    def use_compiled(self, path: Path | str) -> None:
        """Score with what `models.scoring.compiled_scoring.compile_scoring` wrote for this model on such a machine.

        Requests of one candidate or of more than `MOST_CANDIDATES`, and users with fewer than two
        behaviours, are scored as before.

        Raises:
            OSError: there is no such file.
            ValueError: it is no compiled pass, that of another model, or not for this machine.
        """
        device = self.model.embeddings.weight.device
        if not self.caches:
            raise ValueError(
                f"{path}: compiled for a SUAN, but the model is a {type(self.model.encoder).__name__}"
            )
        if device.type != "cpu":
            raise ValueError(f"{path}: compiled for the CPU, but the model is on {device}")
        self._compiled = load_scoring(path, self._fingerprint)

    def _hours(self, seconds: Tensor) -> Tensor:
        """Hour of the day plus one, as `scaling.batches.gather` gives it."""
        return (seconds + self._utc_offset) // 3600 % 24 + 1

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.tensor(array, device=self.model.embeddings.weight.device)


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error), 160, placeholder=" ...")


def _options(document: Mapping[str, Any]) -> ModelOptions:
    own = document.get("kind", "suan") in ("suan", "lightsuan")
    return SuanOptions(**document) if own else EncoderOptions(**document)


class _Feature(NamedTuple):
    name: str
    vocabulary: str
    max_values: int = 1
    pooling: Literal["mean", "sum"] = "mean"
    weighted: bool = False


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
