"""Erasing from files outside the lake's tables: caches, reports, artifacts, logs, databases.

What has rows is edited row by row where its format is known, else deleted. A report is replaced if
it names them, or shows single rows of a holdout that had theirs; the page in its place says so,
since registry and summary point to it. Other reports stay. A model's own files are never touched:
what is in them goes with the model (`models`).
"""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from lifecycle.governance.databases import compact, open_database, redact_database
from lifecycle.governance.folder import Folder, open_folder
from lifecycle.governance.places import Places, find_places, is_sqlite, prefect_home
from lifecycle.governance.requests import Found
from lifecycle.governance.search import search_file
from lifecycle.governance.subject import GONE, Subject
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.settings import Settings, sqlite_url

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
    """What became of a file or database table."""

    place: str
    change: str
    """Such as `deleted` or `edited`; empty if it was looked at and kept."""


def erase_files(
    project: Project, settings: Settings, subject: Subject, found: Found
) -> Iterator[Treated]:
    """Erase the persons from every file that is no table; what was done, file by file, and which
    pages of models that had their rows are kept.

    Raises:
        BackendError: a folder or database cannot be read or written.
    """
    places = find_places(settings)
    results = f"{prefect_home(settings) / 'storage'}/"
    learners = [one.model for one in found.learners]
    measured = [one.model for one in found.learners if one.measured]
    lake = f"{open_folder(settings.lake).path.rstrip('/')}/"
    for folder, path in places.files():
        if path.startswith(lake) or MODEL.search(path):
            continue
        if is_sqlite(folder, path) or path.endswith(SQLITES_OWN):
            continue
        if path.startswith(results):
            if _about(folder, path, project, subject):
                folder.remove(path)
                yield Treated(folder.shown(path), "deleted")
        elif path.endswith((".html", ".htm")):
            if _names(folder, path, subject) or _is_of(path, measured):
                if folder.read(path) != PAGE.encode():
                    folder.write(path, PAGE.encode())
                    yield Treated(folder.shown(path), "replaced")
            elif _is_of(path, learners):
                yield Treated(folder.shown(path), "")
        elif PurePosixPath(path).name in EXAMPLES:
            yield from _erase_examples(folder, path, found)
        elif _names(folder, path, subject):
            yield from _edit(folder, path, subject)
    yield from _erase_databases(places, subject)


def _about(folder: Folder, path: str, project: Project, subject: Subject) -> bool:
    """Whether a cached result is this project's: it refers to versions that have changed."""
    data = folder.read(path)
    return re.search(rf"\b{project.name}\b".encode(), data) is not None or subject.holds(data)


def _is_of(path: str, models: Collection[ModelVersion]) -> bool:
    """Whether a page is one of these models': in a folder of its run or its digest."""
    own = {one.digest[:12] for one in models} | {one.run_id for one in models}
    return any(part in own or part[:12] in own for part in PurePosixPath(path).parts)


def _names(folder: Folder, path: str, subject: Subject) -> bool:
    try:
        return bool(search_file(folder, path, subject)[0])
    except FileNotFoundError:  # somebody's temporary file
        return False


def _erase_examples(folder: Folder, path: str, found: Found) -> Iterator[Treated]:
    """Rows of pandas' split form: those that are theirs go."""
    try:
        whole = json.loads(folder.read(path))
        split = whole.get("dataframe_split", whole)
        columns, rows = split["columns"], split["data"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return
    theirs = {_row_key(columns, json.loads(text)) for text in found.examples}
    kept = [
        row
        for row in rows
        if _row_key(columns, dict(zip(columns, row, strict=False))) not in theirs
    ]
    if len(kept) < len(rows):
        split["data"] = kept
        if "index" in split:
            split["index"] = list(range(len(kept)))
        folder.write(path, json.dumps(whole).encode())
        gone = f"{len(rows) - len(kept)} of {len(rows)} example rows"
        yield Treated(folder.shown(path), gone)


def _row_key(columns: list[str], row: dict[str, object]) -> str:
    """A row's values of the columns as text: equal for equal rows."""
    values = [row.get(name, GONE) for name in columns]
    plain = [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
    return json.dumps(plain, default=str)


def _edit(folder: Folder, path: str, subject: Subject) -> Iterator[Treated]:
    """Text loses their values; what is no text is deleted."""
    data = folder.read(path)
    text = data.decode("utf-8", errors="surrogateescape")
    edited = subject.redact(text).encode("utf-8", errors="surrogateescape")
    if BINARY in data[:4096] or edited == data:
        folder.remove(path)
        yield Treated(folder.shown(path), "deleted")
    else:
        folder.write(path, edited)
        yield Treated(folder.shown(path), "edited")


def _erase_databases(places: Places, subject: Subject) -> Iterator[Treated]:
    urls = [
        sqlite_url(path)
        for folder in places.folders
        for path in folder.files()
        if is_sqlite(folder, path)
    ]
    for url in [*urls, *places.databases]:
        with open_database(url) as engine:
            changed = redact_database(engine, subject)
            compact(engine, changed)
            shown = engine.url.render_as_string(hide_password=True)
            for table, rows in changed.items():
                yield Treated(shown, f"{table}, {rows} rows edited")
