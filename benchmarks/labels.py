"""1,000,000 predictions joined with their labels, beside polars on the same files.

The ledger has two labels of each fifth prediction, of which the one known last counts, and labels
that were known only after the moment asked about. Both read the labels from their files and end
with the truth of each prediction; the predictions are in memory.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from benchmarks.result import Result, ratio
from lifecycle.labels.ledger import MOMENT, SCHEMA, Ledger
from lifecycle.labels.truth import truth_by_id
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings

ROWS, FILES, SEED = 1_000_000, 10, 17
CORRECTED = 0.2
AS_OF = datetime(2026, 1, 31, tzinfo=UTC)
PROJECT = Path(__file__).parents[1] / "examples" / "bike_sharing" / "project.yaml"


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of ours and the twin."""
    project = load_project(PROJECT)
    rng = np.random.default_rng(SEED)
    ids = pa.array([f"{at:028x}-0" for at in rng.permutation(ROWS).tolist()])
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Settings(home=Path(folder)), project.name)
        for part in np.array_split(np.arange(ROWS), FILES):
            ledger.append(_labels(ids, part, rng))
        own, bare = _own_join(ledger, project, ids), _polars_join(ledger, ids)
        if not np.array_equal(own, bare, equal_nan=True):
            raise RuntimeError("the two joins do not give the same truth")
        pairs = [
            (_seconds(_own_join, ledger, project, ids), _seconds(_polars_join, ledger, ids))
            for _ in range(rounds)
        ]
    own_times, bare_times = zip(*pairs, strict=True)
    detail = f"s; {ROWS:,} predictions, {int(ROWS * (1 + CORRECTED)):,} labels, {FILES} files"
    yield ratio("labels joined", own_times, bare_times, 2.0, detail)


def _labels(ids: pa.Array, rows: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Labels of some predictions, a fifth of them corrected later, in no order."""
    corrected = rng.choice(rows, int(len(rows) * CORRECTED), replace=False)
    at = rng.permutation(np.concatenate([rows, corrected]))
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    known_at = start + rng.integers(0, 60 * 86_400_000_000, len(at))  # half of them after AS_OF
    columns = {
        "id": ids.take(pa.array(at)),
        "known_at": pa.array(known_at).cast(MOMENT),
        "number": pa.array(rng.integers(0, 900, len(at)).astype(np.float64)),
    }
    nulls = {field.name: pa.nulls(len(at), field.type) for field in SCHEMA}
    return pa.table(nulls | columns, schema=SCHEMA)


def _own_join(ledger: Ledger, project: Project, ids: pa.Array) -> np.ndarray:
    return truth_by_id(ledger.rows(AS_OF), project, ids).values


def _polars_join(ledger: Ledger, ids: pa.Array) -> np.ndarray:
    labels = (
        pl.scan_parquet(DeltaTable(ledger.uri).file_uris())
        .filter(pl.col("known_at") <= AS_OF)
        .select("id", "known_at", "number")
        .group_by("id")
        .agg(pl.col("number").sort_by("known_at").last())
    )
    predictions = pl.LazyFrame({"id": pl.Series(ids)})
    joined = predictions.join(labels, on="id", how="left", maintain_order="left").collect()
    return joined["number"].to_numpy()


def _seconds(join: Callable[..., np.ndarray], *arguments: object) -> float:
    started = time.perf_counter()
    join(*arguments)
    return time.perf_counter() - started
