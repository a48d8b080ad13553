"""Ingestion: source → window → contract → one new version, every row accounted for.

Batch by batch: neither the source nor the version is ever in memory as a whole.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.audit.data_trail import record_data, record_owed
from lifecycle.data.contract import (
    Checker,
    Table,
    Terms,
    check_compatible,
    contract_note,
    last_contract,
    stage_terms,
)
from lifecycle.data.contract.checker import check_share
from lifecycle.data.contract.quarantine import SCHEMA as QUARANTINE
from lifecycle.data.contract.quarantine import TABLE as REJECTED
from lifecycle.data.incremental import Increment, increment_of
from lifecycle.data.privacy import (
    NOTED,
    Hidden,
    check_key,
    erased_digest,
    erased_hashes,
    erased_mask,
    fingerprint,
)
from lifecycle.data.sources import Source, digesting, open_source, spread
from lifecycle.data.windows import inside, unplaced_rows
from lifecycle.errors import SourceError
from lifecycle.lake.column_types import release_memory
from lifecycle.lake.manifest import check_intact, is_intact
from lifecycle.lake.table import Noted, noted_version, relocated, table_uri
from lifecycle.lake.write import VersionWriter
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Ingested, Window
from lifecycle.runtime.identity import code_digest, sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

Progress = Callable[[int], None]
"""Told how many rows were read so far."""
TAKE_IN_ANEW = (
    "restore it from a backup of the lake, or move the table's folder aside: then the next run "
    "takes in all that the source still has"
)
"""What to do about a damaged version of which the source may have no longer all rows."""


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
        SettingsError: personal data were hashed with another key before.
        BackendError: the lake cannot be written.
    """
    check_key(project, settings)
    former = last_contract(settings, project.name)
    if former is not None:
        check_compatible(former, project.contract)
    source = spread(open_source(project), settings)
    with digesting(source) as digest:
        run = _plan(project, settings, window, table, source, digest)
        earlier = run.earlier()
        if earlier is not None:
            content = json.loads(earlier.note["ingested"])
            ingested = Ingested.model_validate(content | {"dataset": earlier.version.model_dump()})
            record_owed(settings, project.name, "ingest", *_change(run, table, ingested))
            return relocated(ingested, settings)
        result = _write(run, progress)
    release_memory()
    record_data(settings, project.name, "ingest", *_change(run, table, result))
    return result


@dataclass(frozen=True)
class _Run:
    """One ingestion: what it reads, and where it writes."""

    project: Project
    settings: Settings
    window: Window
    terms: Terms
    uri: str
    source: Source
    hashed: Callable[[], str]
    erased: frozenset[str]
    increment: Increment | None

    @cached_property
    def digest(self) -> str:
        """The source's; waited for if it is not there yet."""
        return self.hashed()

    @cached_property
    def request(self) -> str:
        return _request(self.project, self.window, self.digest, self.erased)

    def earlier(self) -> Noted | None:
        """The intact version made from the very same, if there is one; only where one may be, the
        source's digest is waited for."""
        if self.increment is not None:  # only what was taken in last counts
            former = self.increment.former
            if former is None or former.note.get("request") != self.request:
                return None
            check_intact(former.version, TAKE_IN_ANEW)
            return former
        alike = {"project": self.project.name, "window": str(self.window)}
        if noted_version(self.uri, alike) is None:
            return None
        noted = noted_version(self.uri, {"request": self.request})
        return noted if noted is None or is_intact(noted.version) else None

    @property
    def former(self) -> Noted | None:
        """The version whose rows the new one holds, too."""
        return self.increment.former if self.increment else None

    def note(self) -> dict[str, str]:
        """Note for the commits of this run."""
        return {
            "source": self.digest,
            "source_place": self.source.place,
            "window": str(self.window),
            "project": self.project.name,
            **contract_note(self.project.contract),
            **provenance(),
            **(self.increment.note() if self.increment else {}),
        }


def _plan(
    project: Project,
    settings: Settings,
    window: Window,
    table: Table,
    source: Source,
    hashed: Callable[[], str],
) -> _Run:
    if project.source.incremental:
        hashed()  # which files are new is asked next
    uri = table_uri(settings, project.name, table)
    return _Run(
        project=project,
        settings=settings,
        window=window,
        terms=stage_terms(project, table),
        uri=uri,
        source=source,
        hashed=hashed,
        erased=erased_hashes(settings, project) if project.entity else frozenset(),
        increment=increment_of(project, source, uri, window),
    )


def _write(run: _Run, progress: Progress | None) -> Ingested:
    """Every row goes to the new version or to quarantine; both are committed behind the last."""
    project, source, increment = run.project, run.source, run.increment
    hidden = Hidden(project, run.settings)
    terms = run.terms
    # a key that comes twice replaces where rows are added; it is no violation there
    contract = terms.contract.model_copy(update={"key": ()}) if increment else terms.contract
    checker = Checker(
        contract,
        now=datetime.now(UTC).replace(tzinfo=None),
        time=terms.time,
        latest=terms.latest,
        mask=hidden.mask,
        at=source.at,
    )
    schema = hidden.schema(checker.schema)
    rows_in, unplaced = 0, 0
    with ExitStack() as stack:
        if increment:
            stack.enter_context(increment)
        writer = stack.enter_context(
            VersionWriter(schema, run.uri, run.former.version if run.former else None)
        )
        rejected_uri = table_uri(run.settings, project.name, REJECTED)
        quarantine = stack.enter_context(VersionWriter(QUARANTINE, rejected_uri))
        keep = increment.stage if increment else writer.write
        for batch, numbers in _rows(run, progress):
            rows_in += batch.num_rows
            unplaced += unplaced_rows(batch, project) if run.window.unplaced else 0
            accepted, rejected = checker.check(batch, numbers)
            quarantine.write(rejected)
            if accepted.num_rows:
                keep(hidden.batch(accepted))
        if not rows_in and run.former is None:
            raise SourceError(f"{source.place}: no rows in the window {run.window}")
        note = run.note()
        if hidden.hashes or run.erased:
            note |= {NOTED: fingerprint(run.settings)}
        rejected_version = quarantine.commit(note) if quarantine.rows else None
        if rejected_version is not None:
            _check_share(run, checker, rows_in, unplaced, rejected_version)
        violations = checker.finish() if rows_in else ()
        rows_new = increment.merge(schema, writer) if increment else None
        ingested = Ingested(
            dataset=DatasetVersion(uri=run.uri, version=0, digest="", rows=0),
            window=run.window,
            rows_in=rows_in,
            rejected=rejected_version,
            source_digest=run.digest,
            violations=violations,
            rows_new=rows_new,
        )
        if run.former is not None and not rows_new:
            dataset = run.former.version
            check_intact(dataset, TAKE_IN_ANEW)
        else:
            notes = {"request": run.request, "ingested": _without_rows(ingested)}
            dataset = writer.commit(note | notes)
    return ingested.model_copy(update={"dataset": dataset})


def _rows(
    run: _Run, progress: Progress | None
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """The rows to check, with their numbers in what is read of the source (from 0)."""
    project, source, increment = run.project, run.source, run.increment
    only = increment.parts if increment else None
    if only is not None and not only:
        return
    after = increment.after if increment else None
    start = 0
    for batch in source.batches(run.terms.contract.columns, only=only, after=after):
        place = source.at(start + 1).place
        batch = run.terms.complete(batch, place, continued=run.former is not None)
        numbers = np.arange(start, start + batch.num_rows, dtype=np.int64)
        start += batch.num_rows
        mask = inside(batch, project, run.window)
        if increment:
            mask = _both(mask, increment.later(batch))
        if run.erased and project.entity in batch.schema.names:
            erased = erased_mask(batch.column(project.entity), run.erased, run.settings)
            mask = _both(mask, ~erased.to_numpy(zero_copy_only=False))
        if mask is not None:
            batch, numbers = batch.filter(pa.array(mask)), numbers[mask]
        if progress:
            progress(start)
        if batch.num_rows:
            yield batch, numbers


def _both(
    first: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    if first is None or other is None:
        return first if other is None else other
    return first & other


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
            "code": code_digest("data"),
            "today": str(date.today()) if fresh and fresh.max_age_days else "",
        }
    )


def _check_share(
    run: _Run, checker: Checker, rows: int, unplaced: int, rejected_version: DatasetVersion
) -> None:
    """See that not too many rows were rejected.

    Args:
        unplaced: those of the rows that lie in no window: rejected all, they say nothing of this
            one.
    """
    project, first = run.project, run.source.at(checker.first_rejected)
    place = (
        f"The rejected rows are in {rejected_version.uri}, version {rejected_version.version}: "
        f"lifecycle rejected {project.file} shows them. "
    )
    rejected = checker.rejected - unplaced
    counts, values = checker.reasons, checker.examples
    check_share(project, counts, rejected, rows - unplaced, first, place, values)


def _without_rows(ingested: Ingested) -> str:
    """What the commit keeps of an ingestion: no examples, which hold values of rows."""
    bare = [v.model_dump(mode="json") | {"examples": ()} for v in ingested.violations]
    content = ingested.model_dump(mode="json", exclude={"dataset"}) | {"violations": bare}
    return json.dumps(content)


def _change(run: _Run, table: str, ingested: Ingested) -> tuple[str, int, str, tuple[str, str]]:
    """The audit trail's line of an ingestion, which comes after the commit."""
    dataset = ingested.dataset
    rows = f"{ingested.rows_in:,} rows in, {ingested.rows_rejected:,} rejected"
    reasons = (f"{run.source.place}, {run.window}", f"{rows}, {dataset.rows:,} in the version")
    return table, dataset.version, dataset.digest, reasons
