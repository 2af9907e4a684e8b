"""A study's data: its facts for a plan, and the store itself, generated first where a study asks for it."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling.config import DataConfig, from_document
from scaling.errors import UserError
from scaling.store import EventStore, Schema, open_store
from scaling.synthetic import SyntheticConfig, generate_logs, synthetic_schema

__all__ = ["DataFacts", "data_facts", "ensure_data"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFacts:
    """What a plan needs to know of a store.

    `fingerprint` is None where the store is still to be generated: its runs then have no signature yet.
    """

    path: Path
    schema: Schema
    n_train: int
    n_test: int
    fingerprint: str | None


def data_facts(data: DataConfig) -> DataFacts:
    """Look at the study's store, or at what would be generated; writes nothing.

    Raises:
        UserError: no store and no `[data.generate]`, a damaged store, or one generated otherwise.
    """
    path = Path(data.path)
    config = _synthetic_config(data)
    if not path.exists():
        if config is None:
            raise UserError(
                f"{path}: no event store; make one with `scaling data import` or `scaling data generate`"
            )
        return DataFacts(path, synthetic_schema(config), config.n_train, config.n_test, None)
    store = open_store(path)
    if config is not None and store.source.get("config") != asdict(config):
        raise UserError(
            f"{path}: was generated with {store.source.get('config')}, but the study asks for "
            f"{asdict(config)}; remove the folder or give data.path another one"
        )
    return DataFacts(path, store.schema, store.n_train, store.n_test, store.fingerprint)


def ensure_data(data: DataConfig) -> EventStore:
    """Open the study's store with all checks, generating it first if it is missing.

    Raises:
        UserError: as `data_facts`, or the contents break the format.
    """
    data_facts(data)
    path = Path(data.path)
    if not path.exists():
        config = _synthetic_config(data)
        assert config is not None
        logger.info(
            "generating %s impressions into %s", f"{config.n_train + config.n_test:,}", path
        )
        begin = time.perf_counter()
        generate_logs(path, config)
        logger.info("generated in %.1f s", time.perf_counter() - begin)
    return open_store(path, verify=True)


def _synthetic_config(data: DataConfig) -> SyntheticConfig | None:
    if data.generate is None:
        return None
    return from_document(SyntheticConfig, data.generate, "data.generate")
