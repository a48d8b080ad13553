"""Ingestion beside polars' streaming engine, and 20 million rows in bounded memory.

Ours reads, holds every row against the contract, keeps the bad ones in quarantine, digests and
commits a version; polars reads, filters by the same promises and writes Parquet. Both end with the
same rows, which is checked.
"""

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pyarrow import csv

from benchmarks.result import Result, information, limit, ratio
from benchmarks.train_flow import Measured
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.lake.read import read_table
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Window
from lifecycle.runtime.cluster import connect_ray
from lifecycle.settings import Settings

ROWS, MANY = 1_000_000, 20_000_000
FILES = 8
BLOCK = 1_000_000
CITIES = ("Aachen", "Bern", "Cork", "Dresden", "Espoo")
NUMBERS = tuple(f"x{at}" for at in range(6))
GIGABYTES = 1.5


def write(folder: Path, rows: int, format: str = "parquet") -> Project:
    """A data set of visits, one row in a hundred bad, with its project file."""
    file = folder / f"visits.{format}"
    if format == "parquet":
        with pq.ParquetWriter(file, _block(0, 1).schema) as writer:
            for start in range(0, rows, BLOCK):
                writer.write_table(_block(start, min(BLOCK, rows - start)), row_group_size=1 << 17)
    else:
        csv.write_csv(_block(0, rows), file)
    columns: dict[str, dict[str, object]] = {
        "who": {"type": "integer"},
        "moment": {"type": "datetime"},
        "city": {"type": "category", "categories": list(CITIES)},
        **{name: {"type": "number", "minimum": -20, "maximum": 20} for name in NUMBERS},
        "label": {"type": "integer", "minimum": 0, "maximum": 1},
    }
    project = folder / "project.yaml"
    declared = {
        "name": "visits",
        "source": {"path": file.name, "format": format},
        "task": "binary",
        "target": "label",
        "entity": "who",
        "time": {"column": "moment", "period": "day"},
        "contract": {"columns": columns, "max_rejected_share": 0.05},
    }
    project.write_text(yaml.safe_dump(declared, sort_keys=False))
    return load_project(project)


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of ours and polars, then one long run for its memory."""
    for format in ("parquet", "csv"):
        with TemporaryDirectory() as scratch:
            project = write(Path(scratch), ROWS, format)
            pairs = [_round(project, Path(scratch), number) for number in range(rounds + 1)]
        times, bare = zip(*pairs[1:], strict=True)  # the first one warms both
        detail = f"s; {ROWS:,} rows × {len(NUMBERS) + 4} columns read, checked, written"
        yield ratio(f"ingestion of {format} / polars", times, bare, 3.0, detail)
    with TemporaryDirectory() as scratch:
        write(Path(scratch), MANY)
        for hashed in (False, True):
            yield from _many(Path(scratch), hashed)
    with TemporaryDirectory() as scratch:
        yield from _spread(Path(scratch), rounds)


def _spread(folder: Path, rounds: int) -> Iterator[Result]:
    """Packed text in many files, read by Ray Data's workers, beside the one process of before."""
    write(folder, 1, "csv")
    project = folder / "project.yaml"
    declared = yaml.safe_load(project.read_text())
    declared["source"] = {"path": "visits-*.csv.gz", "format": "csv"}
    project.write_text(yaml.safe_dump(declared, sort_keys=False))
    for at in range(FILES):
        with pa.CompressedOutputStream(f"{folder}/visits-{at}.csv.gz", "gzip") as file:
            csv.write_csv(_block(at * BLOCK, ROWS // FILES), file)
    loaded, times = load_project(project), []
    with connect_ray(Settings(ray_cpus=2)):
        for number in range(rounds + 1):
            pair = []
            for address in ("local", "connected"):
                settings = Settings(home=folder / f"{address}-{number}", ray_address=address)
                started = time.perf_counter()
                ingest(loaded, settings, Window())
                pair.append(time.perf_counter() - started)
            times.append(pair)
    ratios = [shared / single for single, shared in times[1:]]  # the first one starts the workers
    single, shared = (statistics.median(pair) for pair in zip(*times[1:], strict=True))
    detail = (
        f"{shared:.3g} and {single:.3g} s; {ROWS:,} rows in {FILES} gzipped CSV files, two workers "
        f"on the cores of the one process; median of {rounds} interleaved rounds"
    )
    yield information("ingestion read by Ray Data / by one process", ratios, "×", detail)


def _many(folder: Path, hashed: bool) -> Iterator[Result]:
    """Memory and time of a process of its own, its entity as it is or under a keyed hash."""
    project = folder / "project.yaml"
    declared = yaml.safe_load(project.read_text())
    declared["contract"]["columns"]["who"]["pii"] = "hash" if hashed else "keep"
    project.write_text(yaml.safe_dump(declared, sort_keys=False))
    shutil.rmtree(folder / "home", ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.ingest", str(folder)]
    measured = Measured(command, dict(os.environ), [], memory=True)
    output = measured.printed
    label = "20M rows, entity hashed" if hashed else "20M rows"
    detail = f"{MANY:,} rows ingested, checked, versioned and split; one run"
    memory = f"PSS of all processes at the peak; {detail}"
    yield limit(f"peak memory of preparing {label}", [measured.peak / 1e9], "GB", GIGABYTES, memory)
    seconds = f"of it ingesting {output['ingest']:.3g} s; {detail}"
    yield information(f"time of preparing {label}", [output["seconds"]], "s", seconds)


def _round(project: Project, folder: Path, number: int) -> tuple[float, float]:
    settings = Settings(home=folder / f"home-{number}")
    started = time.perf_counter()
    ingested = ingest(project, settings, Window())
    middle = time.perf_counter()
    bare = folder / "bare.parquet"
    _polars(folder / project.source.path, bare)
    ended = time.perf_counter()
    if number == 0:
        stored = pl.from_arrow(read_table(ingested.dataset))
        assert isinstance(stored, pl.DataFrame)
        assert stored.equals(pl.read_parquet(bare).select(stored.columns).cast(stored.schema))
    return middle - started, ended - middle


def _polars(source: Path, target: Path) -> None:
    """The same rows by polars' streaming engine."""
    if source.suffix == ".csv":
        frame = pl.scan_csv(source, try_parse_dates=True)
    else:
        frame = pl.scan_parquet(source)
    condition = pl.col("city").is_in(CITIES) & pl.col("label").is_between(0, 1)
    for name in NUMBERS:
        condition &= pl.col(name).is_between(-20, 20)
    frame.filter(condition).sink_parquet(target, compression="lz4", maintain_order=True)


def _block(start: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(start)
    values = rng.standard_normal((rows, len(NUMBERS)))
    values[rng.random(rows) < 0.005, 0] = 99
    cities = np.array([*CITIES, "Atlantis"], dtype=object)
    chance = [0.199] * len(CITIES) + [0.005]
    minutes = np.sort(rng.integers(0, 1_440 * 30, rows)) + start // BLOCK * 1_440 * 30
    moments = np.datetime64("2020-01-01T00:00:00", "us") + minutes.astype("timedelta64[m]")
    return pa.table(
        {
            "who": rng.integers(0, 5_000_000, rows),
            "moment": moments.astype("datetime64[us]"),
            "city": cities[rng.choice(len(cities), rows, p=np.array(chance) / sum(chance))],
            **{name: values[:, at] for at, name in enumerate(NUMBERS)},
            "label": (values[:, 1] > 0).astype("int64"),
        }
    )


def _prepare(folder: Path) -> None:
    """Run the measured process, which prints its times as its last line."""
    project = load_project(folder / "project.yaml")
    settings = Settings(home=folder / "home")
    started = time.perf_counter()
    result = ingest(project, settings, Window())
    ingested = time.perf_counter()
    parts = split_dataset(project, settings, result)
    assert result.rows_in == MANY
    assert parts.train.rows + parts.validation.rows + parts.holdout.rows + parts.withheld == (
        result.dataset.rows
    )
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "ingest": ingested - started}))


if __name__ == "__main__":
    _prepare(Path(sys.argv[1]))
