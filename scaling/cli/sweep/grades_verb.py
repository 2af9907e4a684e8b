"""The verb `scaling grades`, which prints the ladder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.options import AsJson, Output
from scaling.cli.output import emit
from scaling.cli.tables import Table

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("grades")(grades)


def grades(
    data: Annotated[
        Path | None, typer.Option(help="An event store; counts are for its features.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="A study file that defines further grades.")
    ] = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print the ladder of grades: sizes, parameters, FLOPs per sample.

    Without --data, the counts are for the features of the generated logs.

    Example: scaling grades --data data/movielens-1m
    """
    from models.grades import GRADES
    from models.kinds import size_of
    from models.model_options import ModelOptions, SuanOptions
    from scaling.store import open_store
    from scaling.study import load_study
    from scaling.synthetic import SyntheticConfig, synthetic_schema

    ladder = dict(GRADES)
    options: dict[str, ModelOptions] = {}
    if study is not None:
        config = load_study(study)
        ladder |= config.grades
        options = {name: config.options(name) for name in ladder}
    schema = (
        synthetic_schema(SyntheticConfig(n_train=1)) if data is None else open_store(data).schema
    )
    documents = []
    for name, grade in ladder.items():
        size = size_of(grade, options.get(name, SuanOptions()), schema)
        documents.append(
            {
                "grade": name,
                "n_layers": grade.n_layers,
                "n_heads": grade.n_heads,
                "d": grade.d,
                "token_width": grade.d * len(schema.behaviour),
                "max_len": grade.max_len,
                "n_params": size.n_params,
                "n_embedding_params": size.n_embedding_params,
                "flops_per_sample": size.flops_per_sample,
                "training_flops_per_sample": size.training_flops(1),
                "activation_bytes": size.activation_bytes,
            }
        )
    rows = [list(document.values()) for document in documents]
    emit(Table(list(documents[0]), rows), documents, as_json=as_json, output=output)
