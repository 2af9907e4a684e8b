"""The trained model of a finished run: `model.safetensors` in its folder, with everything needed to rebuild it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from models.ctr_model import CTRModel
from models.grades import Grade
from models.kinds import ModelError
from models.kinds.building import empty_model
from models.model_options import ModelOptions
from scaling.atomic_files import atomic_path
from scaling.documents import parse_json
from scaling.errors import StorageError, UserError
from scaling.records import MODEL_FILE, check_file, read_record
from scaling.store import Feature, Schema
from scaling.strict_values import from_document
from scaling.study import RunConfig

__all__ = ["load_model", "read_model", "save_model"]


# The entry of the file's metadata.
_FACTS = "facts"


def save_model(
    folder: Path,
    model: CTRModel,
    config: RunConfig,
    schema: Schema,
    utc_offset_seconds: int = 0,
    *,
    table: torch.Tensor | None = None,
) -> Path:
    """Write the model's parameters, grade, options, input features and the time zone of its hours.

    `table` is the whole feature table if the model holds only a share of its rows.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / MODEL_FILE
    # the order of the vocabularies is the order of their rows in the table
    features = {**schema.to_json(), "vocabularies": list(schema.vocabularies.items())}
    facts: dict[str, Any] = {
        "grade": asdict(config.grade),
        "options": asdict(config.model),
        "schema": features,
        "utc_offset_seconds": utc_offset_seconds,
    }
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    if table is not None:
        tensors["embeddings.weight"] = table
    with atomic_path(path) as temporary:
        try:
            temporary.touch()
            mode = (
                temporary.stat().st_mode
            )  # by the user's umask; safetensors makes the file private
            # one entry, since the format keeps no order of several
            save_file(tensors, temporary, {_FACTS: json.dumps(facts)})
            temporary.chmod(mode)
        except SafetensorError as error:
            raise StorageError(f"{path}: cannot be written: {error}") from error
    return path


def load_model(run_folder: Path, device: str = "cpu") -> CTRModel:
    """Return the saved model of a finished run, ready to score.

    Raises:
        UserError: the folder contains no model, or a damaged one.
    """
    return read_model(run_folder, device)[0]


def read_model(run_folder: Path, device: str = "cpu") -> tuple[CTRModel, Schema]:
    """Return the saved model of a finished run, ready to score, and its input features.

    Raises:
        UserError: the folder contains no model, or a damaged one.
    """
    path = Path(run_folder) / MODEL_FILE
    if not path.exists():
        raise UserError(
            f"{path}: no such file; a run saves its model when it is done, unless [run] keep_model = false"
        )
    record = path.with_name("record.json")
    if record.exists():  # else the run is not finished
        check_file(path, read_record(record).files.get(MODEL_FILE))
    try:
        with safe_open(path, "pt") as opened:
            facts = _read_facts(opened.metadata())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        schema = _schema(facts["schema"])
        grade = from_document(Grade, facts["grade"], str(path))
        if grade.n_layers > len(tensors):  # a model of billions of layers would be built for hours
            raise ValueError(f"{grade.n_layers:,} layers, but {len(tensors)} tensors")
        model = empty_model(
            grade,
            from_document(ModelOptions, facts["options"], str(path)),  # type: ignore[arg-type]
            schema,
        )
        model.load_state_dict(tensors)
    except ModelError as error:
        raise UserError(f"{path}: {error}") from error
    except (
        OSError,
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise UserError(f"{path}: not a model of this version: {error}") from error
    return model.to(torch.device(device)).eval(), schema


def _read_facts(metadata: dict[str, str]) -> dict[str, Any]:
    """What else the file says; earlier versions wrote an entry for each fact."""
    told = metadata.get(_FACTS)
    return parse_json(told) if told else {key: parse_json(text) for key, text in metadata.items()}


def _schema(document: dict[str, Any]) -> Schema:
    groups = {
        name: tuple(Feature(**feature) for feature in document[name])
        for name in ("behaviour", "candidate", "context", "profile")
    }
    return Schema(
        **groups, numeric=tuple(document["numeric"]), vocabularies=dict(document["vocabularies"])
    )
