"""Damages what is kept of a trained model, of erased persons, of predictions and of who did what,
and counts what becomes of each.

A small project is ingested, split and trained, and predictions are logged; then, one at a time, a
bit of a file is flipped or the file is cut, the version, bundle or log is read as its readers do,
and the file is put back. Files of the audit trail are also removed and swapped. Reading runs in a
process of its own: damaged Parquet can take a process down. A try is `told` (an error of ours),
`harmless` (what is read is what was written), `silent` (it is not), a `traceback` or a `crash`.
`python -m benchmarks.damage [tries]` prints the table: so many flips and so many cuts over all that
is not the trail, and as many damages of the trail.
"""

import multiprocessing
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table

from benchmarks import large
from benchmarks.result import Result
from lifecycle.audit.data_trail import TABLE as TRAIL
from lifecycle.audit.data_trail import data_chain, record_data
from lifecycle.data.ingest import ingest
from lifecycle.data.privacy import TABLE as ERASED
from lifecycle.data.privacy import erased_hashes, suppress
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.errors import LifecycleError
from lifecycle.governance.tables import count_before
from lifecycle.lake.column_types import to_arrow
from lifecycle.lake.content import digest_of
from lifecycle.lake.logged_predictions import observe, read_log
from lifecycle.lake.manifest import files_of
from lifecycle.lake.packing import pack
from lifecycle.lake.prediction_log import INPUT, SCHEMA, LogTable, tidy
from lifecycle.lake.prediction_log import TABLE as LOG
from lifecycle.lake.read import open_version, read_version
from lifecycle.lake.table import noted_versions, table_uri
from lifecycle.lake.write import VersionWriter
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Bundle, DatasetVersion
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle, write_bundle
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor
from lifecycle.training.trainers.registry import open_trainer

FLIPS = 300
ROWS = 6_000
LOG_ROWS = 200
"""Rows of each append to the log."""
TRAIL_LINES = 30
"""Next to those of ingestion: segments of several sizes, and checkpoints of Delta's log."""
GROWN, INCREMENTS = "grown", 60
"""A table of so many increments: the list of its newest version builds on an earlier one's."""
SEED = 14
DAMAGES = ("flip", "cut", "removal", "swap")
"""What is done to a file of the trail."""
OUTCOMES = ("told", "harmless", "silent", "traceback", "crash")


class DamageTarget(NamedTuple):
    """Stores that are damaged, and the content they should have."""

    project: Project
    settings: Settings
    erased: frozenset[str]
    versions: Mapping[str, DatasetVersion]
    """Table → the version that is read."""
    contents: Mapping[str, str]
    """Table → digest of the rows that are read."""
    bundle: Bundle
    rows: pd.DataFrame
    """What the bundle predicts."""
    predictions: bytes
    logged: tuple[str, ...]
    """What the prediction log says, to each of its readers."""
    lines: tuple[str, ...]
    """What the audit trail says."""

    def folders(self) -> dict[str, Path]:
        """Return the folders that can be damaged, by name."""
        tables = {name: Path(ref.uri) for name, ref in self.versions.items()}
        listed = Path(table_uri(self.settings, self.project.name, ERASED))
        log = Path(table_uri(self.settings, self.project.name, LOG))
        trail = Path(table_uri(self.settings, self.project.name, TRAIL))
        return tables | {"bundle": self.bundle.path, ERASED: listed, LOG: log, TRAIL: trail}


def measure(rounds: int) -> Iterator[Result]:
    """One round: neither a silent try nor a traceback nor a crash is let through."""
    counts = run(FLIPS)
    total = sum(counts.values(), Counter[str]())
    detail = "; ".join(f"{name}: {_spelled(count)}" for name, count in counts.items())
    for name in ("silent", "traceback", "crash"):
        value = float(total[name])
        yield Result(
            name=f"damage: {name} of {FLIPS} flips, {FLIPS} cuts and {FLIPS} changes of the trail",
            value=value,
            unit="tries",
            bar=0,
            holds=value == 0,
            detail=detail,
        )


def run(flips: int, rows: int = ROWS, seed: int = SEED) -> dict[str, Counter[str]]:
    """Table or bundle → how many tries had which outcome.

    Args:
        flips: tries of each kind: flipped bits, cuts, and damages of the trail.
    """
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    counts: dict[str, Counter[str]] = {}
    with TemporaryDirectory(prefix="damage-") as folder:
        subject = keep(Path(folder), rows)
        files = {name: _files(path) for name, path in subject.folders().items()}
        others = [name for name in files if name != TRAIL]
        names = [others[number % len(others)] for number in range(flips)]
        tries = [(name, "flip") for name in names] + [(name, "cut") for name in names]
        tries += [(TRAIL, DAMAGES[number % len(DAMAGES)]) for number in range(flips)]
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, mp_context=context)
        try:
            for name, damage in tries:
                contents = _damaged(damage, files[name], draw)
                with changed(contents):
                    try:
                        outcome = pool.submit(read, subject, name).result()
                    except BrokenProcessPool:
                        outcome = "crash"
                        pool = ProcessPoolExecutor(1, mp_context=context)
                counts.setdefault(name, Counter())[outcome] += 1
                if outcome not in ("told", "harmless"):
                    sys.stderr.write(f"{outcome}: {damage} of {', '.join(map(str, contents))}\n")
        finally:
            pool.shutdown()
    return counts


def _damaged(damage: str, files: list[Path], draw: random.Random) -> dict[Path, bytes | None]:
    """Files with the contents they are to have; None if they are to be gone."""
    file = draw.choice(files)
    content = bytearray(file.read_bytes())
    if damage == "cut":
        return {file: bytes(content[: draw.randrange(len(content))])}
    if damage == "removal":
        return {file: None}
    if damage == "swap":
        other = draw.choice([other for other in files if other != file])
        return {file: other.read_bytes(), other: bytes(content)}
    bit = draw.randrange(len(content) * 8)
    content[bit // 8] ^= 1 << bit % 8
    return {file: bytes(content)}


def keep(folder: Path, rows: int = ROWS) -> DamageTarget:
    """A project that is ingested, split and trained."""
    project = load_project(large.write(folder, rows))
    settings = Settings(home=folder / "home")
    ingested = ingest(project, settings, first_window(project))
    split = split_dataset(project, settings, ingested)
    matrices = open_matrices(project, split.train, split.validation)
    fitted = open_trainer(project).fit(project, matrices, {"max_depth": 3}, threads=1)
    schema = bundle_schema(project, matrices.schema, fitted.model.kind)
    bundle = write_bundle(fitted.model, schema, "damage", settings.folder("bundles"), fitted.curve)
    sample = read_version(split.holdout, list(project.input_columns)).head(50)
    versions = {
        "accepted": ingested.dataset,
        "train": split.train,
        "validation": split.validation,
        "holdout": split.holdout,
        GROWN: _grow(settings, project),
    }
    for persons in (["Ada"], ["Bob", "Cy"], [f"person {n}" for n in range(1000)]):
        suppress(settings, project, persons)
    listed = erased_hashes(settings, project)
    predictions = _predicted(bundle, project, sample)
    log_predictions(settings, project)
    for number in range(TRAIL_LINES):
        record_data(settings, project.name, "ingest", f"table {number % 5}", number)
    lines = _trail_lines(settings, project)
    logged = _logged(settings, project)
    contents = {name: digest_of(read_version(ref)) for name, ref in versions.items()}
    return DamageTarget(
        project, settings, listed, versions, contents, bundle, sample, predictions, logged, lines
    )


def _grow(settings: Settings, project: Project) -> DatasetVersion:
    """Increments of one row, the last of which replaces one, and a packed version in between."""
    uri = table_uri(settings, project.name, GROWN)
    version: DatasetVersion | None = None
    for number in range(INCREMENTS):
        rows = to_arrow(pd.DataFrame({"x": [float(number)], "text": [str(number)]}))
        with VersionWriter(rows.schema, uri, version) as writer:
            if version and number == INCREMENTS - 1:
                writer.replace((files_of(version) or [])[-1], [], np.array([number - 1]))
            writer.write(rows.to_batches()[0])
            version = writer.commit({})
        if number == INCREMENTS // 2:
            version = pack(next(noted_versions(uri))) or version
    assert version
    return version


def log_predictions(settings: Settings, project: Project) -> None:
    """Appends of two replicas, a checkpoint of Delta's among them, put together once."""
    uri, draw = table_uri(settings, project.name, LOG), np.random.default_rng(SEED)
    for number in range(8):
        seconds = time.time() + np.arange(LOG_ROWS) / 1000
        times = pa.array((seconds * 1e6).astype("int64")).cast(SCHEMA.field("time").type)
        columns = {
            "id": [f"{number}.{row}-0" for row in range(LOG_ROWS)],
            "time": times,
            "date": times.cast(pa.date32()),
            "version": pa.array([1 + number % 2] * LOG_ROWS),
            "role": [("champion", "candidate")[number % 2]] * LOG_ROWS,
            "status": ["ok"] * LOG_ROWS,
            "key": ["team"] * LOG_ROWS,
            "latency_ms": draw.random(LOG_ROWS),
            "prediction": draw.random(LOG_ROWS),
            f"{INPUT}f0": draw.random(LOG_ROWS),
        }
        LogTable(uri).append(pa.table(columns), f"replica {number % 2}", number + 1)
        if number == 5:
            tidy(uri, sweep=False)
        if number == 1:
            DeltaTable(uri).create_checkpoint()


def read(subject: DamageTarget, name: str) -> str:
    """Read a table, bundle, log, trail or suppression list, and name the outcome."""
    try:
        if name == "bundle":
            same = _predicted(subject.bundle, subject.project, subject.rows) == subject.predictions
        elif name == LOG:
            same = _logged(subject.settings, subject.project) == subject.logged
        elif name == TRAIL:
            same = _trail_lines(subject.settings, subject.project) == subject.lines
        elif name == ERASED:
            same = erased_hashes(subject.settings, subject.project) == subject.erased
        else:
            ref = subject.versions[name]
            same = digest_of(read_version(ref)) == subject.contents[name]
            same &= sum(batch.num_rows for batch in open_version(ref)) == ref.rows
    except LifecycleError:
        return "told"
    except Exception:
        return "traceback"
    return "harmless" if same else "silent"


@contextmanager
def changed(contents: Mapping[Path, bytes | None]) -> Iterator[None]:
    """Files with other contents, or none, for the block; then they are those that they were."""
    scratches = {file.with_name(f"_aside-{file.name}"): file for file in contents}
    try:
        for scratch, file in scratches.items():
            shutil.copy2(file, scratch)
        for file, content in contents.items():
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
        yield
    finally:
        for scratch, file in scratches.items():
            os.replace(scratch, file)


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """A file with one bit flipped, for the block."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    with changed({file: bytes(content)}):
        yield


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _predicted(bundle: Bundle, project: Project, rows: pd.DataFrame) -> bytes:
    predictor = open_predictor(load_bundle(bundle.path, bundle.digest), project)
    return np.asarray(predictor.predict(rows)).tobytes()


def _logged(settings: Settings, project: Project) -> tuple[str, ...]:
    """All rows, those of a stretch of time, what a canary's gate sees, what retention counts."""
    rows = read_log(settings, project.name, 0.0)
    middle = rows["time"].iloc[len(rows) // 2]
    logged = read_log(settings, project.name, middle.timestamp(), columns=["id", f"{INPUT}f0"])
    observed = observe(settings, project, 0.0)
    uri = table_uri(settings, project.name, LOG)
    old = count_before(uri, middle.to_pydatetime())
    return (rows.to_json(), logged.to_json(), repr(sorted(observed.items())), str(old))


def _trail_lines(settings: Settings, project: Project) -> tuple[str, ...]:
    return tuple(repr(line) for line in data_chain(settings, project.name).lines())


def _spelled(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])


def main() -> None:
    """Print the table; exit code 1 if a try was silent, a traceback or a crash."""
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else FLIPS
    counts = run(tries)
    table = Table("file of", *OUTCOMES)
    for name, count in counts.items():
        table.add_row(name, *(str(count[outcome]) for outcome in OUTCOMES))
    Console().print(table)
    bad = sum(count[outcome] for count in counts.values() for outcome in OUTCOMES[2:])
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
