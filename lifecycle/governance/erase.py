"""Erasing a person: find → stop their return → erase → prove; killed anywhere, run again.

What was found is kept with the request before anything is erased: afterwards nobody could say
which models had learned from them.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lifecycle.audit.card_trail import TABLE as CARD_TRAIL
from lifecycle.audit.data_trail import TABLE as TRAIL
from lifecycle.audit.data_trail import record_data
from lifecycle.audit.model_trail import TABLE as MODEL_TRAIL
from lifecycle.data.privacy import TABLE as ERASED
from lifecycle.data.privacy import suppress
from lifecycle.data.split import PARTS
from lifecycle.errors import ProjectError
from lifecycle.governance.databases import open_database, redact_file
from lifecycle.governance.delta_log import complete, versions_of_files
from lifecycle.governance.folder import Folder, learners, open_folder
from lifecycle.governance.requests import ErasureRequest, Findings, close, save
from lifecycle.governance.search import (
    Places,
    find_places,
    is_sqlite,
    prefect_home,
    search,
    search_file,
)
from lifecycle.governance.subject import ERASED_MARK, Subject, find_subject, fingerprints, present
from lifecycle.governance.tables import (
    erase_rows,
    erase_versions,
    matching_rows,
    sweep,
    table_names,
)
from lifecycle.labels.ledger import TABLE as LABELS
from lifecycle.lake.prediction_log import TABLE as LOG
from lifecycle.lake.read import part_of, row_numbers
from lifecycle.lake.table import ROW, noted_versions, table_uri
from lifecycle.monitoring.results import ALARMS, METRICS
from lifecycle.monitoring.retraining import TABLE as TRIES
from lifecycle.project import Project
from lifecycle.records import Erasure, ModelVersion, Searched
from lifecycle.release.registry import note_erasure
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings, sqlite_url

# Erasure from files outside the lake's tables: caches, reports, artifacts, logs, databases.
#
# What has rows is edited row by row where its format is known, else deleted. A report is replaced
# if it names them, or shows single rows of a holdout that had theirs; the page in its place says
# so, since registry and summary point to it. Other reports stay. A model's own files are never
# touched: what is in them goes with the model (`models`).

EXAMPLES = ("input_example.json", "serving_input_example.json")
"""Rows that MLflow keeps beside a model, to show what it takes."""
MODEL = re.compile(r"/[0-9a-f]{64}/[^/]+$")
"""A bundle's folder bears its digest."""
BINARY = b"\0"
SQLITES_OWN = ("-wal", "-shm", "-journal")
"""Files beside a database that only SQLite may touch."""
PAGE = """<!doctype html><meta charset="utf-8"><title>Deleted</title>
<p>This report could hold rows of a person who was erased. It was deleted; training anew makes
another.</p>
"""


class Treated(NamedTuple):
    """Result for one file or database table."""

    place: str
    change: str
    """Such as `deleted` or `edited`; empty if it was looked at and kept."""


def erase_files(
    project: Project, settings: Settings, subject: Subject, findings: Findings
) -> Iterator[Treated]:
    """Erase the persons from every file that is no table; what was done, file by file, and which
    pages of models that had their rows are kept.

    Raises:
        BackendError: a folder or database cannot be read or written.
    """
    places = find_places(settings)
    results = f"{prefect_home(settings) / 'storage'}/"
    learners = [learner.model for learner in findings.learners]
    measured = [learner.model for learner in findings.learners if learner.measured]
    lake = f"{open_folder(settings.lake).path.rstrip('/')}/"
    for folder, path in places.files():
        if path.startswith(lake) or MODEL.search(path):
            continue
        if is_sqlite(folder, path) or path.endswith(SQLITES_OWN):
            continue
        if path.startswith(results):
            if _about(folder, path, project, subject):
                folder.remove(path)
                yield Treated(folder.label(path), "deleted")
        elif path.endswith((".html", ".htm")):
            if _names(folder, path, subject) or _is_of(path, measured):
                if folder.read(path) != PAGE.encode():
                    folder.write(path, PAGE.encode())
                    yield Treated(folder.label(path), "replaced")
            elif _is_of(path, learners):
                yield Treated(folder.label(path), "")
        elif PurePosixPath(path).name in EXAMPLES:
            yield from _erase_examples(folder, path, findings)
        elif _names(folder, path, subject):
            yield from _edit(folder, path, subject)
    yield from _erase_databases(places, subject)


def _about(folder: Folder, path: str, project: Project, subject: Subject) -> bool:
    """Return whether a cached result names the project or the subject, so that it is outdated."""
    data = folder.read(path)
    return re.search(rf"\b{project.name}\b".encode(), data) is not None or subject.holds(data)


def _is_of(path: str, models: Collection[ModelVersion]) -> bool:
    """Return whether a page belongs to one of the models: its folder has the run or digest."""
    own = {model.digest[:12] for model in models} | {model.run_id for model in models}
    return any(part in own or part[:12] in own for part in PurePosixPath(path).parts)


def _names(folder: Folder, path: str, subject: Subject) -> bool:
    try:
        return bool(search_file(folder, path, subject)[0])
    except FileNotFoundError:  # somebody's temporary file
        return False


def _erase_examples(folder: Folder, path: str, findings: Findings) -> Iterator[Treated]:
    """Remove the persons' rows from pandas' split form."""
    try:
        content = json.loads(folder.read(path))
        split = content.get("dataframe_split", content)
        columns, rows = split["columns"], split["data"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return
    row_keys = {_row_key(columns, json.loads(text)) for text in findings.examples}
    remaining = [
        row
        for row in rows
        if _row_key(columns, dict(zip(columns, row, strict=False))) not in row_keys
    ]
    if len(remaining) < len(rows):
        split["data"] = remaining
        if "index" in split:
            split["index"] = list(range(len(remaining)))
        folder.write(path, json.dumps(content).encode())
        message = f"{len(rows) - len(remaining)} of {len(rows)} example rows"
        yield Treated(folder.label(path), message)


def _row_key(columns: list[str], row: dict[str, object]) -> str:
    """A row's values of the columns as text: equal for equal rows."""
    values = [row.get(name, ERASED_MARK) for name in columns]
    plain = [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
    return json.dumps(plain, default=str)


def _edit(folder: Folder, path: str, subject: Subject) -> Iterator[Treated]:
    """Text loses their values; what is no text is deleted."""
    data = folder.read(path)
    text = data.decode("utf-8", errors="surrogateescape")
    edited = subject.redact(text).encode("utf-8", errors="surrogateescape")
    if BINARY in data[:4096] or edited == data:
        folder.remove(path)
        yield Treated(folder.label(path), "deleted")
    else:
        folder.write(path, edited)
        yield Treated(folder.label(path), "edited")


def _erase_databases(places: Places, subject: Subject) -> Iterator[Treated]:
    """SQLite files in `home`; databases of servers are searched, and left to their programs."""
    files = [
        sqlite_url(path)
        for folder in places.folders
        for path in folder.files()
        if is_sqlite(folder, path)
    ]
    for url in files:
        with open_database(url) as engine:
            label = engine.url.render_as_string(hide_password=True)
            for table, rows in redact_file(engine, subject).items():
                yield Treated(label, f"{table}, {rows} rows edited")


OWN_TABLES = (ERASED, TRAIL, MODEL_TRAIL, CARD_TRAIL, METRICS, ALARMS, TRIES)
"""Tables without rows about persons."""
GROWING = (LOG, LABELS)
"""Tables that many append to, and that keep no versions."""
MAX_PRINTS, MAX_EXAMPLES = 1_000_000, 20_000
"""Values of a column and example rows that a search follows next to the entity's own."""


def erase(project: Project, settings: Settings, request: ErasureRequest) -> Erasure:
    """Carry out a request; it is closed when the search finds nothing more.

    Raises:
        ProjectError: the project has no entity, or a value is none of its column, or is too short.
        BackendError: a store cannot be read or written; run again.
    """
    subject = find_subject(project, settings, request.entities, request.values)
    findings = request.found or find(project, settings, subject)
    request = request.model_copy(update={"found": findings})
    save(settings, request)
    suppress(settings, project, request.entities)
    lake = _lake(project, settings)
    prints = _unique(lake, subject, findings.prints)
    subject = replace(
        subject, prints=prints, examples=findings.examples, predictions=findings.predictions
    )
    names = [name for name in table_names(lake) if name not in OWN_TABLES]
    for name in names:
        _erase_table(settings, project, name, lake / name, subject, request)
    treated = list(erase_files(project, settings, subject, findings))
    for learner in findings.learners:
        if learner.learned:
            note_erasure(learner.model, learner.learned, request.id, settings)
    for name in names:
        if complete(lake / name) and name not in GROWING:
            sweep(lake / name)
    searched = prove(project, settings, subject, request)
    if searched.clean:
        close(settings, request)
    return Erasure(
        request=request.id,
        persons=len(request.entities),
        tables={name: dict(versions) for name, versions in findings.tables.items()},
        changed=tuple(
            f"{learner.place}: {learner.change}" for learner in treated if learner.change
        ),
        kept=tuple(learner.place for learner in treated if not learner.change),
        learners=findings.learners,
        searched=searched,
    )


def _counts_of_parts(
    uri: str, numbers: Mapping[tuple[str, int], Sequence[NDArray[np.int64]]]
) -> dict[int, int]:
    """Version of a part → rows of the persons in it.

    Args:
        numbers: table and version → numbers of their rows, file by file.
    """
    counts = {}
    for noted in noted_versions(uri):
        dataset = part_of(noted.version)
        if dataset is None:
            continue
        matches = numbers.get((dataset.uri.rpartition("/")[2], dataset.version), ())
        if len(matches) and (
            count := np.isin(np.concatenate(matches), row_numbers(noted.version)).sum()
        ):
            counts[noted.version.version] = int(count)
    return counts


def find(project: Project, settings: Settings, subject: Subject) -> Findings:
    """Rows of the persons in every table, and the models that had them."""
    lake = _lake(project, settings)
    tables: dict[str, dict[int, int]] = {}
    numbers: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
    rows: list[pa.Table] = []
    predictions = _predictions(lake, subject)
    subject = replace(subject, predictions=predictions)
    for name in table_names(lake):
        if name in OWN_TABLES:
            continue
        table = lake / name
        versions = versions_of_files(table)
        counts: dict[int, int] = {}
        for path, table_rows in matching_rows(table, subject):
            rows.append(table_rows)
            for version in versions.get(path, [-1]):
                counts[version] = counts.get(version, 0) + len(table_rows)
                if ROW in table_rows.column_names:
                    numbers.setdefault((name, version), []).append(table_rows[ROW].to_numpy())
        if counts:
            tables[name] = dict(sorted(counts.items()))
    for name in PARTS if numbers else ():
        if counts := _counts_of_parts(table_uri(settings, project.name, name), numbers):
            tables[name] = dict(sorted(counts.items()))
    return Findings(
        tables=tables,
        prints=_prints(project, lake, rows, subject),
        examples=_examples(project, rows),
        predictions=predictions,
        learners=learners(project, settings, tables) if tables else (),
    )


def _predictions(lake: Folder, subject: Subject) -> tuple[str, ...]:
    """Ids of the predictions about the persons, by which the ledger may have their labels."""
    rows = [part["id"] for _, part in matching_rows(lake / LOG, subject)]
    return tuple(sorted({text for ids in rows for text in ids.to_pylist() if text}))


def check(
    project: Project, settings: Settings, entities: Sequence[str], values: Sequence[str] = ()
) -> Searched:
    """Search for persons without changing anything."""
    return search(project, settings, find_subject(project, settings, entities, values))


def prove(
    project: Project, settings: Settings, subject: Subject, request: ErasureRequest
) -> Searched:
    """Search everything, and leave the result in the audit trail."""
    searched = search(project, settings, subject)
    result = f"{len(searched.left)} places left, {len(searched.unsearched)} not searched"
    record_data(
        settings,
        project.name,
        "proof",
        "*",
        None,
        reasons=(f"request {request.id}: {searched.files:,} files searched: {result}",),
    )
    return searched


def read_entities(values: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """Values of the command line, and of a file with one a line.

    Raises:
        ProjectError: the file cannot be read.
    """
    if file is None:
        return tuple(values)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"--entities-file: {file}: cannot be read ({error})") from None
    return (*values, *(line.strip() for line in lines if line.strip()))


def _erase_table(
    settings: Settings,
    project: Project,
    name: str,
    table: Folder,
    subject: Subject,
    request: ErasureRequest,
) -> None:
    uri = table_uri(settings, project.name, name)
    if name in GROWING or not complete(table):
        erase_rows(uri, table, subject)
    else:
        erase_versions(uri, table, subject, request.id)
    counts = (request.found.tables if request.found else {}).get(name)
    if counts:
        spelled = ", ".join(f"v{v}: {n:,}" if v >= 0 else f"{n:,}" for v, n in counts.items())
        reason = f"request {request.id}: rows of {len(request.entities)} persons ({spelled})"
        reasons = (reason, request.reason) if request.reason else (reason,)
        newest = max(counts)
        version = newest if newest >= 0 else None  # the log is in no version
        record_data(settings, project.name, "erase", name, version, reasons=reasons)


def _prints(
    project: Project, lake: Folder, rows: Sequence[pa.Table], subject: Subject
) -> dict[str, tuple[str, ...]]:
    """Values that only their rows have in the data, of the contract's columns."""
    contract = project.contract.columns
    prints: dict[str, set[str]] = {}
    for batch in rows:
        for name, values in fingerprints(batch, contract.keys() - subject.columns).items():
            declared = set(map(str, contract[name].categories or ()))
            prints.setdefault(name, set()).update(values - declared)
    return _unique(lake, subject, {name: sorted(values) for name, values in prints.items()})


def _unique(
    lake: Folder, subject: Subject, prints: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """The values that no other person's row has, in any table."""
    remaining = {name: set(values) for name, values in prints.items() if values}
    for path in lake.files() if remaining else ():
        is_own = lake.inside(path).partition("/")[0] in OWN_TABLES
        if path.endswith(".parquet") and "_delta_log" not in path and not is_own:
            with lake.open(path) as file:
                for batch in pq.ParquetFile(file).iter_batches():
                    part = pa.Table.from_batches([batch])
                    others = part.filter(pc.invert(subject.rows(part)))
                    for name, values in present(others, remaining).items():
                        remaining[name] -= values
    return {
        name: tuple(sorted(values)[:MAX_PRINTS]) for name, values in remaining.items() if values
    }


def _examples(project: Project, rows: Sequence[pa.Table]) -> tuple[str, ...]:
    """Their rows as an example request shows them."""
    inputs = list(project.asked_columns)
    examples: dict[str, None] = {}
    for batch in rows:
        if set(inputs) <= set(batch.schema.names):
            for record in to_records(batch.select(inputs).to_pandas()):
                examples[json.dumps(record)] = None
        if len(examples) >= MAX_EXAMPLES:
            break
    return tuple(examples)[:MAX_EXAMPLES]


def _lake(project: Project, settings: Settings) -> Folder:
    return open_folder(f"{settings.lake.rstrip('/')}/{project.name}")
