"""Erasing from files outside the lake's tables: caches, reports, artifacts, logs, databases.

What has rows is edited row by row where its format is known, else deleted; a report leaves a page
that says so, since registry and summary point to it. A model's own files are never touched: what
is in them goes with the model (`models`).
"""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from lifecycle.governance.databases import compact, open_database, redact_database
from lifecycle.governance.folder import Folder, open_folder
from lifecycle.governance.places import Places, find_places, is_sqlite, prefect_home
from lifecycle.governance.requests import Found
from lifecycle.governance.search import search_file
from lifecycle.governance.subject import Subject
from lifecycle.project import Project
from lifecycle.settings import Settings

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


def erase_files(
    project: Project, settings: Settings, subject: Subject, found: Found
) -> Iterator[str]:
    """Erase the persons from every file that is no table; what was done, file by file.

    Raises:
        BackendError: a folder or database cannot be read or written.
    """
    places = find_places(settings)
    results = f"{prefect_home(settings) / 'storage'}/"
    digests = {one.model.digest[:12] for one in found.learners}
    runs = {one.model.run_id for one in found.learners}
    lake = f"{open_folder(settings.lake).path.rstrip('/')}/"
    for folder, path in places.files():
        if path.startswith(lake) or MODEL.search(path):
            continue
        if is_sqlite(folder, path) or path.endswith(SQLITES_OWN):
            continue
        if path.startswith(results):
            if _about(folder, path, project, subject):
                folder.remove(path)
                yield f"{folder.shown(path)}: deleted"
        elif path.endswith((".html", ".htm")):
            theirs = _is_page(path, project, digests, runs, found) or _names(folder, path, subject)
            if theirs and folder.read(path) != PAGE.encode():
                folder.write(path, PAGE.encode())
                yield f"{folder.shown(path)}: replaced"
        elif PurePosixPath(path).name in EXAMPLES:
            yield from _erase_examples(folder, path, found)
        elif _names(folder, path, subject):
            yield from _edit(folder, path, subject)
    yield from _erase_databases(places, subject)


def _about(folder: Folder, path: str, project: Project, subject: Subject) -> bool:
    """Whether a cached result is this project's: it refers to versions that have changed."""
    data = folder.read(path)
    return re.search(rf"\b{project.name}\b".encode(), data) is not None or subject.holds(data)


def _is_page(
    path: str, project: Project, digests: Collection[str], runs: Collection[str], found: Found
) -> bool:
    """Whether a page was made from their rows: of a model that had them, or of the project."""
    if not found.tables:
        return False
    parts = PurePosixPath(path).parts
    if any(part in runs or part[:12] in digests for part in parts):
        return True
    own = "reports" in parts and project.name in parts
    of_a_model = any(re.fullmatch(r"[0-9a-f]{12}(-registered)?", part) for part in parts)
    return own and not of_a_model


def _names(folder: Folder, path: str, subject: Subject) -> bool:
    try:
        return bool(search_file(folder, path, subject)[0])
    except FileNotFoundError:  # somebody's temporary file
        return False


def _erase_examples(folder: Folder, path: str, found: Found) -> Iterator[str]:
    """Rows of pandas' split form: those that are theirs go."""
    try:
        whole = json.loads(folder.read(path))
        split = whole.get("dataframe_split", whole)
        columns, rows = split["columns"], split["data"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return
    theirs = [json.loads(text) for text in found.examples]
    kept = [row for row in rows if not any(_same(columns, row, one) for one in theirs)]
    if len(kept) < len(rows):
        split["data"] = kept
        if "index" in split:
            split["index"] = list(range(len(kept)))
        folder.write(path, json.dumps(whole).encode())
        yield f"{folder.shown(path)}: {len(rows) - len(kept)} of {len(rows)} example rows"


def _same(columns: list[str], row: list[object], theirs: dict[str, object]) -> bool:
    return all(name in theirs and theirs[name] == row[at] for at, name in enumerate(columns))


def _edit(folder: Folder, path: str, subject: Subject) -> Iterator[str]:
    """Text loses their values; what is no text is deleted."""
    data = folder.read(path)
    text = data.decode("utf-8", errors="surrogateescape")
    edited = subject.redact(text).encode("utf-8", errors="surrogateescape")
    if BINARY in data[:4096] or edited == data:
        folder.remove(path)
        yield f"{folder.shown(path)}: deleted"
    else:
        folder.write(path, edited)
        yield f"{folder.shown(path)}: edited"


def _erase_databases(places: Places, subject: Subject) -> Iterator[str]:
    urls = [
        f"sqlite:///{path}"
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
                yield f"{shown}: {table}, {rows} rows edited"
