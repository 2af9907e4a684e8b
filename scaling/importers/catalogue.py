"""`IMPORTERS`, the list of all importers, and `import_logs`, which runs one of them.

An importer declares what its files hold as a `scaling.importers.declaration.Log`; the pipeline does the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import UserError, nearest
from scaling.importers.datasets import (
    any_table,
    eleme,
    kuairand,
    mind,
    movielens_1m,
    movielens_100k,
    movielens_csv,
    taobao,
    vk_lsvd,
    yambda,
)
from scaling.importers.declaration import Log
from scaling.importers.split_options import read_options

if TYPE_CHECKING:
    from scaling.importers.pipeline import Limits, Report, Workers
    from scaling.store import EventStore

__all__ = ["IMPORTERS", "Importer", "import_logs"]


@dataclass(frozen=True)
class Importer:
    """How one data set is imported.

    Attributes:
        summary: name and files of the data set, for the help.
        options: the importer's options with their default values.
        declare: returns the log of a raw folder for given options; it reads headers at most.
        takes_file: whether RAW may be a file; the files that it names are then in the same folder.
    """

    summary: str
    options: Any
    declare: Callable[[Path, Any], Log]
    takes_file: bool = False


IMPORTERS: dict[str, Importer] = {
    "movielens-1m": Importer(
        "MovieLens 1M: ratings.dat, users.dat, movies.dat",
        movielens_1m.MovieLens1MOptions(),
        movielens_1m.movielens_1m,
    ),
    "movielens": Importer(
        "MovieLens 20M, 25M, 32M and latest: ratings.csv, movies.csv",
        movielens_csv.MovieLensOptions(),
        movielens_csv.movielens,
    ),
    "movielens-100k": Importer(
        "MovieLens 100K: u.data, u.user, u.item",
        movielens_1m.MovieLens1MOptions(),
        movielens_100k.movielens_100k,
    ),
    "taobao-ads": Importer(
        "Taobao display ads: raw_sample, ad_feature, user_profile, behavior_log",
        taobao.TaobaoAdsOptions(),
        taobao.taobao_ads,
    ),
    "taobao-userbehavior": Importer(
        "Taobao UserBehavior.csv: behaviours only, negatives are drawn",
        taobao.UserBehaviorOptions(),
        taobao.taobao_userbehavior,
    ),
    "eleme": Importer(
        "Ele.me: D1_0.csv, D1_1.csv, ... of 39 columns without a header",
        eleme.ElemeOptions(),
        eleme.eleme,
    ),
    "kuairand": Importer(
        "KuaiRand Pure, 1K and 27K: log_standard, user_features, video_features_basic",
        kuairand.KuaiRandOptions(),
        kuairand.kuairand,
    ),
    "mind": Importer(
        "MIND small and large: behaviors.tsv, news.tsv",
        mind.MindOptions(),
        mind.mind,
    ),
    "yambda": Importer(
        "Yambda 50M, 500M and 5B: listens.parquet, artist_item_mapping.parquet",
        yambda.YambdaOptions(),
        yambda.yambda,
    ),
    "vk-lsvd": Importer(
        "VK-LSVD, whole or a subsample: week_00.parquet, ..., users_metadata, items_metadata",
        vk_lsvd.VkLsvdOptions(),
        vk_lsvd.vk_lsvd,
    ),
    "table": Importer(
        "any CSV or Parquet files; RAW is a TOML that names their columns, or a folder with one",
        any_table.TableOptions(),
        any_table.any_table,
        takes_file=True,
    ),
}


def import_logs(
    name: str,
    raw: Path | str,
    out: Path | str,
    options: Mapping[str, str] | None = None,
    *,
    limits: "Limits | None" = None,
    report: "Report | None" = None,
    shards: int | None = None,
    workers: "Workers | None" = None,
) -> "EventStore":
    """Import the data set `name` from `raw` into a new store at `out` and open it.

    With `shards`, the import is cut into jobs by a hash of the user, which `workers` work off (default: this process); the
    store is the same, and an import that was stopped goes on where it was.

    Raises:
        UserError: there is no such importer, an option or the input is wrong, or `out` exists; nothing is left
            behind.
    """
    # Imported here, because the help needs `IMPORTERS` but not the engine.
    from scaling.importers.pipeline import (
        Limits,
        ShardedImport,
        import_in_shards,
        import_log,
        local_workers,
    )

    if name not in IMPORTERS:
        raise UserError(f"{name}: no such importer{nearest(name, IMPORTERS)}")
    importer, raw, out = IMPORTERS[name], Path(raw), Path(out)
    if not raw.is_dir() and not (importer.takes_file and raw.is_file()):
        raise UserError(f"{raw}: no such folder; expected the unpacked files of {name}")
    if out.exists():
        raise UserError(f"{out}: already exists; choose another folder or remove this one first")
    chosen = read_options(importer.options, options or {})
    log = importer.declare(raw, chosen)
    source = {"kind": "import", "importer": name, "options": asdict(chosen)}
    folder, limits = raw if raw.is_dir() else raw.parent, limits or Limits()
    if shards is None:
        return import_log(log, folder, out, source, limits, report)
    job = ShardedImport(log, folder.resolve(), out.resolve(), source, limits, shards)
    return import_in_shards(job, workers or local_workers(1), report)
