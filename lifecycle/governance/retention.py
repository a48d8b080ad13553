"""Retention: what is older than `contract.retention.days` and needed by no model is deleted.

A dataset version is needed while champion or challenger were made from it, and the newest version
of a table always is. A deleted version's data files go; its commit stays, and says so, without the
list of its files if no other version's builds on it. Then the newest version of each table is
packed: where nothing expires, its small files would stay next to the packed ones.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pandas as pd

from lifecycle.audit.data_trail import data_chain, record_data, record_owed
from lifecycle.governance.delta_log import LOG as LOG_FOLDER
from lifecycle.governance.delta_log import (
    drop_old_checkpoints,
    forget_versions,
    versions_of_files,
)
from lifecycle.governance.erase import OWN_TABLES
from lifecycle.governance.folder import Folder, open_folder, split_of
from lifecycle.governance.tables import count_before, delete_before, table_names
from lifecycle.labels.ledger import TABLE as LABELS
from lifecycle.lake.packing import pack, packable_files
from lifecycle.lake.prediction_log import TABLE as LOG
from lifecycle.lake.read import part_of
from lifecycle.lake.table import Noted, history, noted_versions, table_uri
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Retained, TableSize
from lifecycle.release.registry import CHALLENGER, CHAMPION, versions
from lifecycle.settings import Settings

DAY = 86_400.0
EXCLUDED = (*OWN_TABLES, LOG, LABELS)
"""Tables that keep no versions."""


def retain(project: Project, settings: Settings, dry_run: bool = False) -> Retained:
    """Delete what is past its time: dataset versions, quarantined rows, logged predictions.

    Nothing is deleted where the project declares no retention.

    Args:
        dry_run: only say what would be deleted.

    Raises:
        BackendError: lake or registry cannot be reached.
    """
    retention = project.contract.retention
    if retention is None:
        return Retained(days=None, dry_run=dry_run, versions={}, kept={}, log_rows=0, packed={})
    until = time.time() - retention.days * DAY
    needed = _needed(project, settings)
    lake = open_folder(f"{settings.lake.rstrip('/')}/{project.name}")
    old = {name: _expired(settings, project, name, until) for name in table_names(lake)}
    expired = _unneeded(old, needed)
    if not dry_run:
        for name, versions in expired.items():
            files = versions_of_files(lake / name)
            _delete_versions(settings, project, name, versions, files, retention.days)
    log_rows = _log_rows(settings, project, until, retention.days, dry_run)
    packed = {name: _pack(settings, project, name, dry_run) for name in old}
    if not dry_run:
        for name in old:
            drop_old_checkpoints(lake / name)
    return Retained(
        days=retention.days,
        dry_run=dry_run,
        versions=expired,
        kept={
            f"{name} v{version}": needed[name, version]
            for name, versions in old.items()
            for version in versions
            if (name, version) in needed
        },
        log_rows=log_rows,
        packed={name: count for name, count in packed.items() if count},
    )


def lake_sizes(project: Project, settings: Settings) -> tuple[TableSize, ...]:
    """Size of each table of a project, which versions models need, and what retention
    would delete; nothing is changed.

    Raises:
        BackendError: lake or registry cannot be reached.
    """
    needed = _needed(project, settings)
    lake = open_folder(f"{settings.lake.rstrip('/')}/{project.name}")
    expired: dict[str, tuple[int, ...]] = {}
    if retention := project.contract.retention:
        until = time.time() - retention.days * DAY
        old = {name: _expired(settings, project, name, until) for name in table_names(lake)}
        expired = _unneeded(old, needed)
    return tuple(
        _size(
            lake / name,
            name,
            history(table_uri(settings, project.name, name)),
            set(expired.get(name, ())),
            {version: model for (table, version), model in sorted(needed.items()) if table == name},
            packable_files(newest.version)
            if (newest := _two_newest(settings, project, name)[0])
            else 0,
        )
        for name in table_names(lake)
    )


def _two_newest(
    settings: Settings, project: Project, name: str
) -> tuple[Noted | None, Noted | None]:
    """The newest version of a table and the one before; None where there is none."""
    if name in EXCLUDED:
        return None, None
    newest_first = noted_versions(table_uri(settings, project.name, name))
    return next(newest_first, None), next(newest_first, None)


def _size(
    table: Folder,
    name: str,
    written: pd.DataFrame,
    expired: set[int],
    needed: dict[int, str],
    packable: int,
) -> TableSize:
    sizes = {table.inside(path): size for path, size in table.sizes().items()}
    log = {path for path in sizes if path.startswith(LOG_FOLDER)}
    data = {path for path in sizes if path.endswith(".parquet")} - log
    freed = [
        path
        for path, versions in versions_of_files(table).items()
        if path in data and set(versions) <= expired
    ]
    return TableSize(
        table=name,
        versions=len(written),
        rows=int(written["rows"].iloc[-1]) if len(written) else 0,
        files=len(data),
        bytes=sum(sizes[path] for path in data),
        log_bytes=sum(sizes[path] for path in log),
        expired=tuple(sorted(expired)),
        freed_bytes=sum(sizes[path] for path in freed),
        needed=needed,
        packable_files=packable,
    )


def _unneeded(
    old: Mapping[str, list[int]], needed: Mapping[tuple[str, int], str]
) -> dict[str, tuple[int, ...]]:
    """Table → its old versions that no model was made from; tables with none are left out."""
    unneeded = {
        name: tuple(version for version in versions if (name, version) not in needed)
        for name, versions in old.items()
    }
    return {name: versions for name, versions in unneeded.items() if versions}


def _needed(project: Project, settings: Settings) -> dict[tuple[str, int], str]:
    """(table, version) → the champion or challenger that was made from it."""
    needs = {}
    for model, aliases in versions(project.name, settings).items():
        roles = [alias for alias in aliases if alias in (CHAMPION, CHALLENGER)]
        split = split_of(model, settings) if roles else None
        for part in (split.train, split.validation, split.holdout) if split else ():
            for version in filter(None, (part, part_of(part))):
                table = version.uri.rpartition("/")[2]
                needs[table, version.version] = f"{roles[0]} v{model.version}"
    return needs


def _expired(settings: Settings, project: Project, name: str, until: float) -> list[int]:
    """Versions written before `until`; the newest is kept, but not of quarantined rows. Tables that
    keep no versions have none."""
    if name in EXCLUDED:
        return []
    written = history(table_uri(settings, project.name, name))
    old = written[written["time"] < pd.Timestamp(until, unit="s")]["version"]
    newest = written["version"].max()
    return [int(version) for version in old if version != newest or name == "rejected"]


def _delete_versions(
    settings: Settings,
    project: Project,
    name: str,
    versions: tuple[int, ...],
    files: Mapping[str, list[int]],
    days: float,
) -> None:
    """The line first: killed behind it, the files go with the next run.

    That finds fewer versions where some are forgotten already, but the last of them, whose line
    has named them all.
    """
    newest = max(versions)
    if not _has_deletion(settings, project, name, newest):
        listing = ", ".join(f"v{version}" for version in versions)
        reason = f"older than {days:g} days: {listing}"
        record_data(settings, project.name, "retention", name, newest, reasons=(reason,))
    table = open_folder(table_uri(settings, project.name, name))
    for path, item in files.items():
        if set(item) <= set(versions):
            table.remove(f"{table.path}/{path}")
    forget_versions(table, versions)


def _has_deletion(settings: Settings, project: Project, name: str, version: int) -> bool:
    """Return whether the trail says that versions up to this one go; a packed one has a digest."""
    deletion = ("retention", name, version, "")
    lines = data_chain(settings, project.name).lines()
    return any(deletion == (line.action, line.table, line.version, line.digest) for line in lines)


def _pack(settings: Settings, project: Project, name: str, dry_run: bool) -> int:
    """Put the small files of a table's newest version together; how many those are.

    The line of the audit trail comes after the commit; where a killed run owes it, it comes now.
    """
    newest, former = _two_newest(settings, project, name)
    count = packable_files(newest.version) if newest else 0
    if newest is None or dry_run:
        return count
    if count:
        version = pack(newest)
        if version is None:
            return 0
        record_data(settings, project.name, "retention", *_packed(name, newest, version, count))
    elif (  # equal rows are written again only when files are put together
        former
        and former.version.digest == newest.version.digest
        and (files := packable_files(former.version))
    ):
        change = _packed(name, former, newest.version, files)
        record_owed(settings, project.name, "retention", *change)
    return count


def _packed(
    name: str, former: Noted, version: DatasetVersion, files: int
) -> tuple[str, int, str, tuple[str]]:
    """The line of the audit trail that says that files were put together."""
    reason = f"{files} small files of v{former.version.version} put together, with the same rows"
    return name, version.version, version.digest, (reason,)


def _log_rows(
    settings: Settings, project: Project, until: float, days: float, dry_run: bool
) -> int:
    uri = table_uri(settings, project.name, LOG)
    end = datetime.fromtimestamp(until, UTC)
    rows = count_before(uri, end)
    if rows and not dry_run:
        reason = f"older than {days:g} days: {rows:,} logged predictions"
        record_data(settings, project.name, "retention", LOG, None, reasons=(reason,))
        delete_before(uri, end)
    return rows
