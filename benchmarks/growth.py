"""A project that grows day by day: what each increment costs on disk and in time.

An increment of 1,000 rows is a CSV file that `ingest` takes in and `split_dataset` divides. Beside
it: the same rows in one file, ingested at once; and a table whose changed rows polars replaces by
writing it anew.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import pandas as pd
import polars as pl
import yaml

from benchmarks.result import Result, information, limit, ratio
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.lake.manifest import files_of
from lifecycle.lake.packing import pack
from lifecycle.lake.read import read_table
from lifecycle.lake.table import history, noted_versions, table_uri
from lifecycle.lineage.datasets import add_datasets
from lifecycle.lineage.graph import Graph
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Ingested, Window
from lifecycle.settings import Settings

INCREMENTS, MANY = 200, 1_000
ROWS, FEW_ROWS = 1_000, 10
UPSERTED, CHANGED = 5_000_000, 0.01
NUMBERS = tuple(f"x{at}" for at in range(8))
LEVELS = ("a", "b", "cc")
SEED = 17
T = TypeVar("T")


def measure(rounds: int) -> Iterator[Result]:
    """One growth of each kind: it takes minutes, so that there are no rounds."""
    with TemporaryDirectory(prefix="growth-") as folder:
        yield from _grow(Path(folder))
    with TemporaryDirectory(prefix="growth-") as folder:
        yield from _read_many(Path(folder))
    with TemporaryDirectory(prefix="growth-") as folder:
        yield _upsert(Path(folder), min(rounds, 3))


def frame(first: int, rows: int) -> pd.DataFrame:
    """Rows with the numbers from `first` on; the same for the same numbers."""
    draw = np.random.default_rng(SEED + first)
    return pd.DataFrame(
        {
            "id": np.arange(first, first + rows),
            "y": draw.integers(0, 2, rows),
            **{name: draw.normal(size=rows).round(4) for name in NUMBERS},
            "level": draw.choice(LEVELS, rows),
        }
    )


def declare(folder: Path, source: dict[str, object], key: bool = False) -> Project:
    """The project of these rows, split by a hash of `id`."""
    columns: dict[str, dict[str, object]] = {
        "id": {"type": "integer"},
        "y": {"type": "integer"},
        **{name: {"type": "number"} for name in NUMBERS},
        "level": {"type": "category", "categories": list(LEVELS)},
    }
    content = {
        "name": "growth",
        "task": "binary",
        "target": "y",
        "entity": "id",
        "source": source,
        "contract": {"columns": columns} | ({"key": ["id"]} if key else {}),
    }
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(content))
    return load_project(file)


def grow(folder: Path, increments: int, rows: int) -> Iterator[tuple[Project, Settings, Ingested]]:
    """Increments, one by one, each prepared as the flow does it."""
    (folder / "in").mkdir()
    project = declare(folder, {"path": "in/*.csv", "incremental": {"by": "files"}})
    settings = Settings(home=folder / "home")
    for number in range(increments):
        frame(number * rows, rows).to_csv(folder / "in" / f"{number:05d}.csv", index=False)
        yield project, settings, ingest(project, settings, Window())


def _grow(folder: Path) -> Iterator[Result]:
    times: list[float] = []
    splits: list[float] = []
    started = time.perf_counter()
    for project, settings, ingested in grow(folder, INCREMENTS, ROWS):
        ingested_at = time.perf_counter()
        times.append(ingested_at - started)
        split_dataset(project, settings, ingested)
        started = time.perf_counter()
        splits.append(started - ingested_at)
    cpu = time.process_time()
    ingest(project, settings, Window())
    cpu = time.process_time() - cpu
    at_once = folder / "at_once"
    at_once.mkdir()
    every = [frame(number * ROWS, ROWS) for number in range(INCREMENTS)]
    pd.concat(every).to_csv(at_once / "all.csv", index=False)
    project_at_once, home = declare(at_once, {"path": "all.csv"}), Settings(home=at_once / "home")
    split_dataset(project_at_once, home, ingest(project_at_once, home, Window()))
    sizes = size(settings.home), size(home.home)
    name = f"growth: disk of {INCREMENTS} increments / of one ingestion"
    disk = ratio(name, [sizes[0] / 1e6], [sizes[1] / 1e6], 1.5, "MB, parts and trail included")
    log = sum(size(folder) for folder in settings.home.rglob("_delta_log")) / 1e6
    rows = size(Path(ingested.dataset.uri)) - size(Path(ingested.dataset.uri, "_delta_log"))
    disk["detail"] += f"; ours: {rows / 1e6:.3g} MB in files of rows, {log:.3g} MB of Delta's logs"
    yield disk
    yield _late("ingesting", times)
    yield information(
        f"growth: splitting after increment {INCREMENTS} / after increment 2",
        [statistics.median(splits[-5:]) / statistics.median(splits[1:6])],
        "×",
        f"{statistics.median(splits[-5:]):.3g} s: it reads the target and the entity of all rows",
    )
    yield limit("growth: ingesting where nothing is new", [cpu], "s of CPU", 0.1, "200 files")


def _late(step: str, times: list[float]) -> Result:
    """Medians of five, so that one slow write does not decide."""
    name = f"growth: {step} increment {INCREMENTS} / increment 2"
    late, early = statistics.median(times[-5:]), statistics.median(times[1:6])
    result = ratio(name, [late], [early], 1.5, "s of wall time, medians of five increments")
    result["detail"] += (
        "; it opens Delta's log, whose commits since the last checkpoint, of which there is one in "
        "100, are read each time, and hashes every file of the source"
    )
    return result


def _read_many(folder: Path) -> Iterator[Result]:
    *_, (project, settings, _) = grow(folder, MANY, FEW_ROWS)
    uri = table_uri(settings, project.name, "accepted")

    def versions() -> int:
        return len(history(uri))

    def lineage() -> int:
        graph = Graph()
        add_datasets(graph, project, settings)
        return len(graph.nodes)

    for name, read in (("versions", versions), ("lineage of the data", lineage)):
        seconds, count = _timed(read)
        detail = f"{count:,} of them, {MANY:,} increments"
        yield limit(f"growth: {name}", [seconds], "s", 2, detail)
    yield _packed(uri)


def _packed(uri: str) -> Result:
    """What `lifecycle retention` makes of the newest version, and how fast both are read."""
    before = next(noted_versions(uri))
    seconds, packed = _timed(lambda: pack(before))
    if packed is None:
        raise RuntimeError("nothing was packed")
    own, _ = _timed(lambda: read_table(packed))
    bare, _ = _timed(lambda: read_table(before.version))
    files = [len(files_of(version) or ()) for version in (before.version, packed)]
    detail = f"{bare:.3g} s / {own:.3g} s; {files[0]:,} files became {files[1]} in {seconds:.3g} s"
    name = f"growth: reading {MANY:,} increments as they came / packed"
    return information(name, [bare / own], "×", detail)


def _upsert(folder: Path, rounds: int) -> Result:
    """Rows in a hundred, spread over the whole table, come again with other values."""
    (folder / "in").mkdir()
    incremental = {"by": "files"}
    source: dict[str, object] = {"path": "in/*.parquet", "format": "parquet"}
    project = declare(folder, source | {"incremental": incremental}, key=True)
    settings = Settings(home=folder / "home")
    table = frame(0, UPSERTED)
    table.to_parquet(folder / "in" / "000.parquet", index=False)
    table.to_parquet(folder / "bare.parquet", index=False)
    ingest(project, settings, Window())
    times, bare = [], []
    draw = np.random.default_rng(SEED)
    for number in range(1, rounds + 1):
        ids = draw.choice(UPSERTED, int(CHANGED * UPSERTED), replace=False)
        # no value that a row has by chance: what comes again as it was is not written
        changed = table.iloc[np.sort(ids)].assign(x0=100.0 + number)
        file = folder / "in" / f"{number:03d}.parquet"
        changed.to_parquet(file, index=False)
        seconds, count = _timed(lambda: ingest(project, settings, Window()).rows_new or 0)
        if count != len(ids):
            raise RuntimeError(f"{count:,} rows were replaced, not {len(ids):,}")
        times.append(seconds)
        bare.append(_timed(partial(_replace, folder / "bare.parquet", file))[0])
    share = f"upsert of {CHANGED:.0%} of {UPSERTED:,} rows"
    name = f"growth: {share} / polars writing all anew"
    result = ratio(name, times, bare, 0.5, "s of wall time")
    result["detail"] += (
        "; each file has a changed row, so all are written anew: deltalake writes no deletion "
        "vectors"
    )
    return result


def _replace(table: Path, changed: Path) -> int:
    new = pl.read_parquet(changed)
    merged = pl.concat([pl.read_parquet(table).join(new, on="id", how="anti"), new])
    merged.write_parquet(table.with_suffix(".new"))
    os.replace(table.with_suffix(".new"), table)
    return len(merged)


def size(folder: Path) -> int:
    """Bytes of the files in a folder and below."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result
