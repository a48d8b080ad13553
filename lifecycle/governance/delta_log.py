"""The log of a Delta table, read and changed commit by commit, each file replaced in one step.

What Delta's own writers never do: a commit that was made names other files later. The order in
which it is done, and why readers and writers may go on meanwhile, is told in `tables`.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from lifecycle.errors import BackendError
from lifecycle.governance.folder import Folder
from lifecycle.lake.manifest import (
    BASE,
    EXPIRED,
    MANIFEST,
    REMOVED,
    SEAL,
    Manifest,
    manifest_of,
    sealed,
)
from lifecycle.lake.table import ERASED, ROWS

LOG = "_delta_log/"
COMMIT = re.compile(r"_delta_log/(\d{20})\.json$")
NUMBERED = re.compile(r"_delta_log/(\d{20})\.checkpoint[^/]*$")
CHECKPOINT = re.compile(r"_delta_log/(\d{20}\.checkpoint.*|_last_checkpoint|_sidecars/.*)$")
NAME = re.compile(r"^(?P<stem>.*?)(?:\.erased-(?P<round>\d+)-(?P<rows>\d+))?\.parquet$")
MARK = "erasure"
"""In an empty commit: which request was carried out before it."""

Commit = list[dict[str, Any]]


def commits(table: Folder) -> dict[int, Commit]:
    numbers = {path: int(match[1]) for path in table.files() if (match := COMMIT.search(path))}
    read = table.read_all(numbers)
    return {
        number: [json.loads(line) for line in read[path].decode().splitlines() if line.strip()]
        for path, number in sorted(numbers.items(), key=lambda item: item[1])
    }


def added_paths(table: Folder) -> set[str]:
    """Every data file that a commit has ever added."""
    paths_by_commit = commits(table).values()
    return {
        _path(action["add"]) for commit in paths_by_commit for action in commit if "add" in action
    }


def versions_of_files(table: Folder) -> dict[str, list[int]]:
    """Data file → the dataset versions that hold it."""
    versions: dict[str, list[int]] = {}
    active: set[str] = set()
    for version, commit in commits(table).items():
        for action in commit:
            if "add" in action:
                active.add(_path(action["add"]))
            if "remove" in action:
                active.discard(_path(action["remove"]))
        if any("digest" in action.get("commitInfo", {}) for action in commit):
            for path in active:
                versions.setdefault(path, []).append(version)
    return versions


def complete(table: Folder) -> bool:
    """Return whether the log has every commit since the table was created."""
    numbers = [int(match[1]) for path in table.files() if (match := COMMIT.search(path))]
    return bool(numbers) and numbers == list(range(len(numbers)))


def is_marked(table: Folder, request: str) -> bool:
    return any(
        action.get("commitInfo", {}).get(MARK) == request
        for commit in commits(table).values()
        for action in commit
    )


def mark(uri: str, request: str) -> None:
    note = CommitProperties(custom_metadata={MARK: request})
    try:
        table = DeltaTable(uri)
        table.create_write_transaction([], "append", table.schema(), commit_properties=note)
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot write: {error}") from None


def switch(table: Folder) -> bool:
    """Let the log name the newest round of every file; whether anything had to be changed."""
    present = {table.inside(path) for path in table.files()}
    folders = {parts(path)[0] for path in added_paths(table)}
    names = {stem: path for stem, path in newest_rounds(present).items() if stem in folders}
    changed = _prepare(table, names)
    rows: dict[str, int] = {}
    for version, commit in commits(table).items():
        new = [_added(action, names, table) for action in commit]
        new = [_listed(action, names, table) for action in new]
        for action in new:
            if "add" in action:
                rows[_path(action["add"])] = _rows(action["add"])
            if "remove" in action:
                rows.pop(_path(action["remove"]), None)
        new = [_counted(action, sum(rows.values())) for action in new]
        changed |= _replace(table, version, commit, new)
    return changed


def forget_versions(table: Folder, versions: Collection[int]) -> None:
    """Let commits no longer be dataset versions: their content is gone, and must not be found.

    Lists of files go from all such commits, but those that the list of another version builds on.
    """
    written = commits(table)
    new = {
        version: [_forgotten(action) if version in versions else action for action in commit]
        for version, commit in written.items()
    }
    bases = {json.loads(info[BASE])[0] for info in _infos(new) if "digest" in info and BASE in info}
    for version, commit in new.items():
        if version not in bases:
            commit = [_unlisted(action) for action in commit]
        _replace(table, version, written[version], commit)


def drop_old_checkpoints(table: Folder) -> None:
    """Delete all checkpoints but the newest: with every commit there, no reader needs them."""
    if not complete(table):
        return
    numbers = {path: int(match[1]) for path in table.files() if (match := NUMBERED.search(path))}
    newest = max(numbers.values(), default=0)
    for path, number in numbers.items():
        if number < newest:
            table.remove(path)


def drop_checkpoints(table: Folder) -> None:
    """The pointer first: without it a reader lists what is there."""
    checkpoints = [path for path in table.files() if CHECKPOINT.search(path)]
    for path in sorted(checkpoints, key=lambda path: not path.endswith("_last_checkpoint")):
        table.remove(path)


def newest_rounds(paths: set[str]) -> dict[str, str]:
    """Stem → the newest round of a file, where there is a round."""
    newest: dict[str, tuple[int, str]] = {}
    for path in paths:
        if not path.endswith(".parquet") or LOG in path:
            continue
        stem, number, _ = parts(path)
        if number and number > newest.get(stem, (0, ""))[0]:
            newest[stem] = (number, path)
    return {stem: path for stem, (_, path) in newest.items()}


def parts(path: str) -> tuple[str, int, int]:
    """A data file's name without rounds, its round, and how many rows were erased from it."""
    match = NAME.match(path)
    if match is None:
        return path, 0, 0
    return match["stem"], int(match["round"] or 0), int(match["rows"] or 0)


def _prepare(table: Folder, names: dict[str, str]) -> bool:
    """Step 1: removes for files that are to come, and how many rows each version will lack."""
    changed, active = False, set[str]()
    for version, commit in commits(table).items():
        removes = [action["remove"] for action in commit if "remove" in action]
        removed = {_path(remove) for remove in removes}
        active -= {parts(path)[0] for path in removed}
        active |= {parts(_path(a["add"]))[0] for a in commit if "add" in a}
        more = [
            {"remove": remove | {"path": quote(name, safe="/=")}}
            for remove in removes
            if (name := names.get(parts(_path(remove))[0])) and name not in removed
        ]
        unique = {action["remove"]["path"]: action for action in more}
        erased_count = sum(parts(names[stem])[2] for stem in active if stem in names)
        new = [
            action | {"commitInfo": action["commitInfo"] | {ERASED: str(erased_count)}}
            if erased_count and "digest" in action.get("commitInfo", {})
            else action
            for action in commit
        ]
        changed |= _replace(table, version, commit, [*new, *unique.values()])
    return changed


def _added(action: dict[str, Any], names: dict[str, str], table: Folder) -> dict[str, Any]:
    """Step 2: an added file in its newest round, without the statistics of the rows it had."""
    if "add" not in action:
        return action
    path = _path(action["add"])
    name = names.get(parts(path)[0], path)
    if name == path:
        return action
    with table.open(f"{table.path}/{name}") as file:
        rows = pq.ParquetFile(file).metadata.num_rows
        size = file.seek(0, os.SEEK_END)
    stats = json.dumps({"numRecords": rows})
    return {"add": action["add"] | {"path": quote(name, safe="/="), "size": size, "stats": stats}}


def _listed(action: dict[str, Any], names: dict[str, str], table: Folder) -> dict[str, Any]:
    """The same in the list that a commit has of its files, with the new bytes' digests."""
    info = action.get("commitInfo", {})
    digest = info.get("digest", info.get(EXPIRED))  # others may build on an expired one's list
    if digest is None:
        return action
    try:
        manifest = manifest_of(info)
    except ValueError as error:
        raise BackendError(
            f"{table.path}: the commit of digest {str(digest)[:12]} is damaged ({error}); "
            "restore the table from a backup, then erase again"
        ) from None
    if manifest is None:
        return action
    new = []
    for file in manifest.files:
        name = names.get(parts(file.path)[0], file.path)
        if name == file.path:
            new.append(file)
            continue
        with table.open(f"{table.path}/{name}") as stream:
            hashed = hashlib.file_digest(stream, "sha256")  # type: ignore[arg-type]  # IO has readinto
        new.append(file._replace(path=name, sha256=hashed.hexdigest()))
    removed = frozenset(names.get(parts(path)[0], path) for path in manifest.removed)
    changed = manifest._replace(files=new, removed=removed)
    return action if changed == manifest else {"commitInfo": info | sealed(info, changed)}


def digests(table: Folder) -> dict[str, str]:
    """Data file → SHA-256 of its bytes, as the commits list them.

    Raises:
        BackendError: a commit is not as it was written.
    """
    digests_by_path: dict[str, str] = {}
    for version, commit in commits(table).items():
        for action in commit:
            try:
                manifest = manifest_of(action.get("commitInfo", {}))
            except ValueError as error:
                raise BackendError(
                    f"{table.path}/{LOG}{version:020d}.json is damaged ({error}); restore it from "
                    "a backup"
                ) from None
            files = manifest.files if manifest else []
            digests_by_path |= {file.path: file.sha256 for file in files}
    return digests_by_path


def _counted(action: dict[str, Any], rows: int) -> dict[str, Any]:
    """Correct the number of rows that `lake.history` reports for a version with erased rows."""
    info = action.get("commitInfo", {})
    metrics = info.get("operationMetrics", {})
    if "digest" not in info or "num_added_rows" not in metrics or ERASED not in info:
        return action
    if ROWS in info:
        return {"commitInfo": info | {ROWS: rows}}
    return {"commitInfo": info | {"operationMetrics": metrics | {"num_added_rows": rows}}}


def _infos(log: Mapping[int, Commit]) -> Iterator[dict[str, Any]]:
    actions = chain.from_iterable(log.values())
    return (action["commitInfo"] for action in actions if "commitInfo" in action)


def _unlisted(action: dict[str, Any]) -> dict[str, Any]:
    """An expired version's note without the list of its files; a damaged one stays as it is."""
    info = action.get("commitInfo", {})
    if EXPIRED not in info or SEAL not in info:
        return action
    try:
        manifest_of(info)
    except ValueError:
        return action
    bare = {key: value for key, value in info.items() if key not in (MANIFEST, BASE, REMOVED, SEAL)}
    return action | {"commitInfo": bare | sealed(bare, Manifest([]))}


def _forgotten(action: dict[str, Any]) -> dict[str, Any]:
    info = dict(action.get("commitInfo", {}))
    if "digest" not in info:
        return action
    info[EXPIRED] = info.pop("digest")
    return action | {"commitInfo": info}


def _rows(add: dict[str, Any]) -> int:
    return int(json.loads(add.get("stats") or "{}").get("numRecords", 0))


def _path(action: dict[str, Any]) -> str:
    return unquote(action["path"])


def _replace(table: Folder, version: int, old: Commit, new: Commit) -> bool:
    if old == new:
        return False
    text = "\n".join(json.dumps(action, separators=(",", ":")) for action in new)
    table.write(f"{table.path}/{LOG}{version:020d}.json", text.encode())
    return True
