"""Ingestion: source → window → contract → one new version, every row accounted for."""

from datetime import UTC, datetime
from typing import Literal

import pandas as pd

from lifecycle.data.arrivals import select
from lifecycle.data.arrow import release_memory
from lifecycle.data.contract import apply_contract, check_columns, count_reasons
from lifecycle.data.lake import table_uri, write_version
from lifecycle.data.sources import read_source, source_digest
from lifecycle.errors import ContractError, SourceError
from lifecycle.project import Project
from lifecycle.records import Ingested, Window
from lifecycle.settings import Settings

Table = Literal["accepted", "current"]
"""What training learns from, and what arrives later."""
REASONS_SHOWN = 8


def ingest(
    project: Project,
    settings: Settings,
    window: Window,
    table: Table = "accepted",
    digest: str | None = None,
) -> Ingested:
    """Write the window's rows that keep the contract as a version; quarantine the others.

    Running again on the same source and window writes nothing and returns the same.

    Args:
        digest: SHA-256 of the source, if it has been taken already.

    Raises:
        SourceError: the source cannot be read, or has no rows in the window.
        ContractError: a column is missing, the data are too old, or more rows break the contract
            than `max_rejected_share` allows; they are in quarantine then, and no version is made.
        BackendError: the lake cannot be written.
    """
    digest = digest or source_digest(project)
    source = read_source(project)
    check_columns(source, project.contract)
    rows = select(source, project, window)
    del source  # frames go as soon as they can: there is room for little more than one
    if rows.empty:
        raise SourceError(f"{project.source.path}: no rows in the window {window}")
    now = datetime.now(UTC).replace(tzinfo=None)
    time = project.time.column if project.time else None
    checked = apply_contract(rows, project.contract, now=now, time=time)
    rows_in = len(rows)
    del rows
    note = {"source": digest, "window": str(window), "project": project.name}
    rejected = None
    if len(checked.rejected):
        uri = table_uri(settings, project.name, "rejected")
        rejected = write_version(checked.rejected, uri, note=note)
        place = f"The rejected rows are in {uri}, version {rejected.version}. "
        check_share(project, checked.rejected, rows_in, place)
    uri = table_uri(settings, project.name, table)
    dataset = write_version(checked.accepted, uri, note=note)
    del checked
    release_memory()
    return Ingested(
        dataset=dataset,
        window=window,
        rows_in=rows_in,
        rejected=rejected,
        source_digest=digest,
    )


def check_share(project: Project, rejected: pd.DataFrame, rows: int, place: str = "") -> None:
    """Refuse a batch with too many rejected rows.

    Args:
        rows: how many rows the batch has.
        place: where the rejected rows are, as a sentence.

    Raises:
        ContractError: more are rejected than `max_rejected_share` allows; counted by reason.
    """
    allowed = project.contract.max_rejected_share
    share = len(rejected) / rows
    if share <= allowed:
        return
    counts = list(count_reasons(rejected).items())
    lines = [f"  {reason}: {count:,} rows" for reason, count in counts[:REASONS_SHOWN]]
    if len(counts) > REASONS_SHOWN:
        lines.append(f"  and {len(counts) - REASONS_SHOWN} more reasons")
    raise ContractError(
        f"{project.source.path}: {len(rejected):,} of {rows:,} rows ({share:.2%}) break the "
        f"contract, and contract.max_rejected_share allows {allowed:.2%}:\n"
        + "\n".join(lines)
        + f"\nThe first is row {rejected['row'].iloc[0]}. {place}"
        "Correct the data, or what the contract says of them"
    )
