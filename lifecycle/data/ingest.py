"""Ingestion: source → window → contract → one new version, every row accounted for.

Batch by batch: neither the source nor the version is ever in memory as a whole.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.arrivals import inside
from lifecycle.data.arrow import release_memory
from lifecycle.data.contract import (
    Checker,
    check_columns,
    check_compatible,
    contract_note,
    last_contract,
)
from lifecycle.data.contract.quarantine import SCHEMA as QUARANTINE
from lifecycle.data.contract.quarantine import TABLE as REJECTED
from lifecycle.data.erased import erased_digest, erased_hashes, erased_mask
from lifecycle.data.hidden import Hidden
from lifecycle.data.incremental import Increment, increment_of
from lifecycle.data.lake import VersionWriter, noted_version, table_uri
from lifecycle.data.provenance import provenance
from lifecycle.data.share import check_share
from lifecycle.data.sources import Source, digest_of_parts, open_source, spread
from lifecycle.data.trail import record_data
from lifecycle.errors import SourceError
from lifecycle.identity import code_digest, sha256
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Ingested, Window
from lifecycle.settings import Settings

Table = Literal["accepted", "current"]
"""What training learns from, and what arrives later."""
Progress = Callable[[int], None]
"""Told how many rows were read so far."""


def ingest(
    project: Project,
    settings: Settings,
    window: Window,
    table: Table = "accepted",
    progress: Progress | None = None,
) -> Ingested:
    """Write the window's rows that keep the contract as a version; quarantine the others.

    Running again on the same source, window, contract and code writes nothing and returns the same.
    With `source.incremental`, only what is new is read, and the version holds the former rows, too.

    Raises:
        SourceError: the source cannot be read, or has no rows in the window.
        ContractError: a column is missing, the contract changed without a new version, the data as
            a whole are not as expected, or more rows break the contract than `max_rejected_share`
            allows; they are in quarantine then, and no version is made.
        BackendError: the lake cannot be written.
    """
    former = last_contract(settings, project.name)
    if former is not None:
        check_compatible(former, project.contract)
    source = spread(open_source(project), settings)
    digest = digest_of_parts(source.parts())
    erased = erased_hashes(settings, project) if project.entity else frozenset()
    request = _request(project, window, digest, erased)
    uri = table_uri(settings, project.name, table)
    increment = increment_of(project, source, uri, window)
    done = noted_version(uri, {"request": request})
    # what was taken in stays, though the source may be again what it was before
    if done is not None and (increment is None or increment.former == done):
        found = json.loads(done.note["ingested"])
        return Ingested.model_validate(found | {"dataset": done.version.model_dump()})
    hidden = Hidden(project, settings)
    now = datetime.now(UTC).replace(tzinfo=None)
    time = project.time.column if project.time else None
    contract = increment.contract if increment else project.contract
    checker = Checker(contract, now=now, time=time, mask=hidden.mask, at=source.at)
    schema = hidden.schema(checker.schema)
    rejected_uri = table_uri(settings, project.name, REJECTED)
    rows_in = 0
    with ExitStack() as stack:
        if increment:
            stack.enter_context(increment)
        writer = stack.enter_context(VersionWriter(schema, uri))
        quarantine: VersionWriter | None = None
        for batch, numbers in _rows(project, settings, source, window, erased, increment, progress):
            rows_in += batch.num_rows
            accepted, rejected = checker.check(batch, numbers)
            if rejected.num_rows:
                quarantine = quarantine or stack.enter_context(
                    VersionWriter(QUARANTINE, rejected_uri)
                )
                quarantine.write(rejected)
            if accepted.num_rows:
                accepted = hidden.batch(accepted)
                if increment:
                    increment.stage(accepted)
                else:
                    writer.write(accepted)
        if not rows_in and not (increment and increment.former):
            raise SourceError(f"{source.place}: no rows in the window {window}")
        note = _note(project, window, source, digest) | (increment.note() if increment else {})
        kept: DatasetVersion | None = None
        if quarantine is not None:
            kept = quarantine.commit(note)
            place = (
                f"The rejected rows are in {rejected_uri}, version {kept.version}: "
                f"lifecycle rejected {project.file} shows them. "
            )
            first = source.at(checker.first_rejected)
            check_share(project, checker.reasons, checker.rejected, rows_in, first, place)
        violations = checker.finish() if rows_in else ()
        rows_new = increment.merge(schema, writer.write) if increment else None
        made = Ingested(
            dataset=DatasetVersion(uri=uri, version=0, digest="", rows=0),
            window=window,
            rows_in=rows_in,
            rejected=kept,
            source_digest=digest,
            violations=violations,
            rows_new=rows_new,
        )
        # examples are shown, not kept: they hold values of rows
        bare = [v.model_dump(mode="json") | {"examples": ()} for v in violations]
        said = made.model_dump(mode="json", exclude={"dataset"}) | {"violations": bare}
        note |= {"request": request, "ingested": json.dumps(said)}
        unchanged = increment is not None and increment.former is not None and not rows_new
        if increment and increment.former and unchanged:
            dataset = increment.former.version
        else:
            dataset = writer.commit(note)
    release_memory()
    _record(settings, project, table, dataset, source, window, made)
    return made.model_copy(update={"dataset": dataset})


def _rows(
    project: Project,
    settings: Settings,
    source: Source,
    window: Window,
    erased: frozenset[str],
    increment: Increment | None,
    progress: Progress | None,
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """The rows to check, with their numbers in what is read of the source (from 0)."""
    only = increment.parts if increment else None
    if only is not None and not only:
        return
    after = increment.after if increment else None
    start = 0
    for batch in source.batches(project.contract.columns, only=only, after=after):
        check_columns(batch.schema.names, project.contract, source.at(start + 1).place)
        numbers = np.arange(start, start + batch.num_rows, dtype=np.int64)
        start += batch.num_rows
        wanted = inside(batch, project, window)
        if increment:
            wanted = _both(wanted, increment.later(batch))
        if erased and project.entity in batch.schema.names:
            gone = erased_mask(batch.column(project.entity), erased, settings)
            wanted = _both(wanted, ~gone.to_numpy(zero_copy_only=False))
        if wanted is not None:
            batch, numbers = batch.filter(pa.array(wanted)), numbers[wanted]
        if progress:
            progress(start)
        if batch.num_rows:
            yield batch, numbers


def _both(
    one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _request(project: Project, window: Window, digest: str, erased: frozenset[str]) -> str:
    """What a version that is made once more would be made from."""
    fresh = project.contract.freshness
    return sha256(
        {
            "source": digest,
            "how": project.source.model_dump(mode="json", exclude={"path"}),
            "window": str(window),
            "contract": project.contract.model_dump(mode="json"),
            "roles": [project.input_columns, project.target, project.protected, project.entity],
            "time": project.time.model_dump(mode="json") if project.time else None,
            "erased": erased_digest(erased),
            "code": code_digest(),
            "today": str(date.today()) if fresh and fresh.max_age_days else "",
        }
    )


def _note(project: Project, window: Window, source: Source, digest: str) -> dict[str, str]:
    return {
        "source": digest,
        "source_place": source.place,
        "window": str(window),
        "project": project.name,
        **contract_note(project.contract),
        **provenance(),
    }


def _record(
    settings: Settings,
    project: Project,
    table: str,
    dataset: DatasetVersion,
    source: Source,
    window: Window,
    made: Ingested,
) -> None:
    """A line of the audit trail; it comes behind the commit, so a killed run may owe it."""
    rows = f"{made.rows_in:,} rows in, {made.rows_rejected:,} rejected"
    reasons = [f"{source.place}, {window}", f"{rows}, {dataset.rows:,} in the version"]
    record_data(settings, project.name, "ingest", table, dataset.version, dataset.digest, reasons)
