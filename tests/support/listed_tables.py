"""A random log whose cells hold several values, weights and numbers; its files in many dialects; and the store it should give."""

import csv
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from scaling.store import Events, EventStore, Feature, Impressions, Schema, write_store

__all__ = ["DIALECTS", "Dialect", "make_listed", "reference", "write_listed"]

START = 1_700_000_000
TOML = """
[impressions]
files = ["shown{end}"]
user = "user"
time = "ts"
item = "item"
label = "label"
{layout}
[events]
files = ["done{end}"]
user = "user"
time = "ts"
item = "item"
{layout}
[users]
files = ["users{end}"]
user = "user"
{layout}
[items]
files = ["items{end}"]
item = "item"
{layout}
[features]
behaviour = ["item", "genres", "tags"]
candidate = ["item", "genres"]
context = ["words"]
profile = ["interests"]
behaviour_numeric = ["price", "length"]
vocabularies = {{ interests = "genres" }}
[lists.genres]
{separator}
max_values = 3
[lists.tags]
{separator}
max_values = 2
pooling = "sum"
[lists.words]
{separator}
max_values = 4
weights = "scores"
[lists.interests]
{separator}
max_values = 5
[vocabularies]
min_count = 3
"""


@dataclass(frozen=True)
class Dialect:
    """How the files are written: `cell` is one list as text; None: Parquet with real lists."""

    separator: str
    before: str = ""
    after: str = ""
    quote: str = ""
    as_json: bool = False
    empty: str = ""
    as_parquet: bool = False
    column_separator: str = ","

    def cell(self, values):
        """One list as a cell of a text file."""
        if not values:
            return self.empty
        if self.as_json:
            return json.dumps(values)
        return (
            self.before
            + self.separator.join(f"{self.quote}{v}{self.quote}" for v in values)
            + self.after
        )


DIALECTS = {
    "bars": Dialect("|"),
    "commas": Dialect(",", column_separator="\t"),
    "carets in brackets": Dialect("^", "[", "]", empty="[]"),
    "python": Dialect(", ", "[", "]", "'", empty="[]"),
    "quoted": Dialect(";", quote='"'),
    "tuples": Dialect(",", "(", ")", column_separator="|"),
    "json": Dialect(",", as_json=True, empty="[]"),
    "empty entries": Dialect("|", after="|", empty="||"),
    "null texts": Dialect("|", empty="NULL"),
    "parquet lists": Dialect(",", as_parquet=True),
    "parquet texts": Dialect("|", as_parquet=True),
}


def make_listed(seed=0, n=120, n_users=8, n_items=12):
    """Return rows by table; a list has up to six values, with repeats."""
    rng = random.Random(seed)

    def some(prefix, most, kinds):
        return [f"{prefix}{rng.randrange(kinds)}" for _ in range(rng.randrange(most + 1))]

    def moment():
        return START + rng.randrange(60)

    shown = []
    for _ in range(n):
        words = some("w", 6, 12)
        shown.append(
            {
                "user": f"u{rng.randrange(n_users)}",
                "ts": moment(),
                "item": f"i{rng.randrange(n_items)}",
                "label": rng.randrange(2),
                "words": words,
                "scores": [rng.choice([0.1, 0.2, 0.3, 1.5, 7]) for _ in words],
                "length": rng.choice([None, 1, 2, 30]),
            }
        )
    done = [
        {
            "user": f"u{rng.randrange(n_users + 1)}",
            "ts": moment(),
            "item": f"i{rng.randrange(n_items + 1)}",
            "tags": some("t", 4, 6),
            "length": rng.choice([None, 0.125, 2.5, 30]),
        }
        for _ in range(n)
    ]
    return {
        "shown": shown,
        "done": done,
        "users": [{"user": f"u{u}", "interests": some("g", 6, 7)} for u in range(n_users - 1)],
        "items": [
            {
                "item": f"i{i}",
                "genres": some("g", 5, 5),
                "price": rng.choice([None, 0.5, 3.25, 1e6]),
            }
            for i in range(n_items)
        ],
    }


def write_listed(folder: Path, tables, dialect: Dialect, toml=TOML, *, shuffled=None) -> Path:
    """Write the files and the TOML; `shuffled` is the seed of another order of the rows."""
    folder.mkdir(exist_ok=True)
    end = ".parquet" if dialect.as_parquet else ".csv"
    for name, rows in tables.items():
        if shuffled is not None:
            rows = random.Random(shuffled).sample(rows, len(rows))
        real = dialect == DIALECTS["parquet lists"]
        cells = [
            {
                k: dialect.cell(v)
                if isinstance(v, list) and not real
                else json.dumps(v)
                if isinstance(v, list)
                else ""
                if v is None
                else v
                for k, v in row.items()
            }
            for row in rows
        ]
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=dialect.column_separator)
            writer.writeheader()
            writer.writerows(cells)
        if dialect.as_parquet:
            _as_parquet(folder / f"{name}.csv", rows[0], real)
    null = '\nnull = ["NULL"]' if dialect.empty == "NULL" else ""
    column_separator = json.dumps(dialect.column_separator)
    layout = "" if dialect.as_parquet else f"separator = {column_separator}{null}"
    separator = "" if dialect.separator == "," else f'separator = "{dialect.separator.strip()}"'
    (folder / "log.toml").write_text(toml.format(end=end, layout=layout, separator=separator))
    return folder


def _as_parquet(file, row, real):
    kinds = {k: "VARCHAR" if isinstance(v, (list, str)) else "DOUBLE" for k, v in row.items()}
    kinds |= {k: "BIGINT" for k in ("ts", "label") if k in row}
    lists = {
        k: "DOUBLE" if k == "scores" else "VARCHAR" for k, v in row.items() if isinstance(v, list)
    }
    casts = ", ".join(f"""from_json({k}, '["{kind}"]') AS {k}""" for k, kind in lists.items())
    replaced = f"* REPLACE ({casts})" if real and lists else "*"
    columns = ", ".join(f"'{k}': '{kind}'" for k, kind in kinds.items())
    duckdb.execute(
        f"COPY (SELECT {replaced} FROM read_csv('{file}', header = true, columns = {{{columns}}})) "
        f"TO '{file.with_suffix('.parquet')}'"
    )
    file.unlink()


def reference(tables, path: Path, min_count=3) -> EventStore:
    """Make the same store with `write_store`, from dictionaries, without SQL."""
    shown, users, items = tables["shown"], tables["users"], tables["items"]
    own = sorted({row["user"] for row in shown})
    done = [row for row in tables["done"] if row["user"] in own]
    genres = {row["item"]: row["genres"] for row in items}
    prices = {row["item"]: row["price"] for row in items}
    interests = {row["user"]: row["interests"] for row in users}
    boundary = sorted(row["ts"] for row in shown)[len(shown) - round(0.2 * len(shown))]
    most = {"genres": 3, "tags": 2, "words": 4, "interests": 5}

    def kept(name, values):
        return list(dict.fromkeys(values))[: most[name]]

    counts = {name: Counter() for name in ("item", "genres", "tags", "words")}
    for row in (*shown, *done):
        if row["ts"] < boundary:
            counts["item"][row["item"]] += 1
            for value in kept("genres", genres.get(row["item"], [])):
                counts["genres"][value] += 1
            for name in ("tags", "words"):
                counts[name].update(kept(name, row.get(name, [])))
    for user in {row["user"] for row in shown if row["ts"] < boundary}:
        counts["genres"].update(kept("interests", interests.get(user, [])))
    ids = {
        name: {v: i for i, v in enumerate(sorted(v for v, n in c.items() if n >= min_count), 2)}
        for name, c in counts.items()
    }

    def cells(name, vocabulary, lists, weights=None):
        found = np.zeros((len(lists), most[name]), dtype=np.int64)
        scores = np.zeros((len(lists), most[name]))
        for row, values in enumerate(lists):
            of_id = {} if kept(name, values) else {1: 1.0}
            for place, value in enumerate(values):
                if value in kept(name, values):
                    one = ids[vocabulary].get(value, 1)
                    of_id[one] = of_id.get(one, 0.0) + (weights[row][place] if weights else 1)
            for place, one in enumerate(sorted(of_id)):
                found[row, place], scores[row, place] = one, of_id[one]
        return {name: found} | ({f"{name}.weights": scores} if weights else {})

    def numbers(name, values, trained):
        present = np.array([value for value in trained if value is not None], dtype=float)
        mean, deviation = present.mean(), present.std()
        return {
            name: np.array([1 if value is None else 2 for value in values]),
            f"{name}.weights": np.array(
                [1.0 if value is None else (value - mean) / deviation for value in values]
            ),
        }

    def one(name, values):
        return {name: np.array([ids[name].get(value, 1) for value in values])}

    trained = [row for row in done if row["ts"] < boundary]
    items_of = {"events": [row["item"] for row in done], "shown": [row["item"] for row in shown]}
    number = [Feature(name, name, 1, "sum", True) for name in ("price", "length")]
    time = np.array([row["ts"] for row in shown])

    def of_rows(rows, of_items):
        return {
            **one("item", of_items),
            **cells("genres", "genres", [genres.get(item, []) for item in of_items]),
            **numbers(
                "price",
                [prices.get(item) for item in of_items],
                [prices.get(row["item"]) for row in trained],
            ),
            **numbers("length", [row["length"] for row in rows], [r["length"] for r in trained]),
        }

    return write_store(
        path,
        Schema(
            behaviour=(
                Feature("item", "item"),
                Feature("genres", "genres", 3),
                Feature("tags", "tags", 2, "sum"),
                *number,
            ),
            candidate=(Feature("item", "item"), Feature("genres", "genres", 3), number[0]),
            context=(Feature("words", "words", 4, weighted=True),),
            profile=(Feature("interests", "genres", 5),),
            vocabularies={
                **{name: len(values) + 2 for name, values in ids.items()},
                "price": 3,
                "length": 3,
            },
        ),
        Events(
            np.array([own.index(row["user"]) for row in done]),
            np.array([row["ts"] for row in done]),
            {
                **of_rows(done, items_of["events"]),
                **cells("tags", "tags", [row["tags"] for row in done]),
            },
        ),
        Impressions(
            np.array([own.index(row["user"]) for row in shown]),
            time,
            np.array([row["label"] for row in shown]),
            time >= boundary,
            of_rows(shown, items_of["shown"]),
            cells("words", "words", [r["words"] for r in shown], [r["scores"] for r in shown]),
        ),
        cells("interests", "genres", [interests.get(user, []) for user in own]),
        n_users=len(own),
        split={"kind": "time", "boundary": boundary},
        source={},
    )
