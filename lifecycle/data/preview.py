"""Dry run of ingestion and split, batch by batch; nothing is written."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.data.contract import Checker, stage_terms
from lifecycle.data.contract.checker import check_share
from lifecycle.data.sources import open_source
from lifecycle.data.split import Parts, divide
from lifecycle.data.windows import first_window, inside
from lifecycle.errors import SourceError
from lifecycle.lake.column_types import to_frame
from lifecycle.lake.read import is_nullable
from lifecycle.project import Project
from lifecycle.records import Violation, Window

HEAD = 1_000
"""Rows kept, to try on them what takes a frame."""
MAX_VIOLATIONS_SHOWN, MAX_EXAMPLES_SHOWN = 8, 3
"""Broken promises told, and rows of each."""


class Rehearsal(NamedTuple):
    """Result of a dry run."""

    window: Window
    rows: int
    """In the window."""
    outside: int
    """Rows of the source that are not: they arrive later."""
    accepted: int
    head: pd.DataFrame
    """The first accepted rows, as a version would have them."""
    parts: Parts
    unlabelled: int
    """Accepted rows without a target, which are in no part."""
    violations: tuple[Violation, ...]
    """Violations of the contract, the worst first."""


def rehearse(project: Project) -> Rehearsal:
    """Read what the first training would see; in memory is only what decides on a row's part.

    Raises:
        SourceError: the source cannot be read, or has no rows in the window.
        ContractError: a column is missing, or the data do not keep the contract.
        TargetError: the target cannot be learned.
        SplitError: a part would be empty.
    """
    window = first_window(project)
    time = project.time.column if project.time else None
    now = datetime.now(UTC).replace(tzinfo=None)
    source = open_source(project)
    terms = stage_terms(project, "accepted")
    checker = Checker(terms.contract, now=now, time=time, latest=terms.latest, at=source.at)
    deciding = list(dict.fromkeys(filter(None, (project.target, project.entity, time))))
    read, rows, accepted = 0, 0, 0
    head: list[pa.RecordBatch] = []
    batches: list[pa.RecordBatch] = []
    for batch in source.batches(terms.contract.columns):
        batch = terms.complete(batch, source.at(read + 1).place)
        numbers = np.arange(read, read + batch.num_rows, dtype=np.int64)
        read += batch.num_rows
        mask = inside(batch, project, window)
        if mask is not None:
            batch, numbers = batch.filter(pa.array(mask)), numbers[mask]
        rows += batch.num_rows
        good = checker.check(batch, numbers).accepted
        if accepted < HEAD:
            head.append(good.slice(0, HEAD - accepted))
        accepted += good.num_rows
        batches.append(good.select(deciding))
    if not rows:
        raise SourceError(f"{source.place}: no rows in the window {window}")
    first = source.at(checker.first_rejected)
    check_share(project, checker.reasons, checker.rejected, rows, first, examples=checker.examples)
    violations = checker.finish()
    keys = to_frame(pa.Table.from_batches(batches), is_nullable)
    return Rehearsal(
        window=window,
        rows=rows,
        outside=read - rows,
        accepted=accepted,
        head=to_frame(pa.Table.from_batches(head), is_nullable),
        parts=divide(keys, project),
        unlabelled=int(keys[project.target].isna().sum()),
        violations=violations,
    )


def summary_lines(rehearsal: Rehearsal, project: Project) -> Iterator[str]:
    """A rehearsal in words, where every row of the source is counted; a line each."""
    sizes = [f"{part} {mask.sum():,}" for part, mask in rehearsal.parts.masks.items()]
    withheld = rehearsal.parts.withheld - rehearsal.unlabelled
    if withheld:
        sizes.append(f"withheld {withheld:,} (to keep {_kept_apart(project)} apart)")
    if rehearsal.unlabelled:
        sizes.append(f"without {project.target} {rehearsal.unlabelled:,}")
    summary = f"{rehearsal.accepted:,} of {rehearsal.rows:,} rows keep the contract"
    yield f"{rehearsal.window}: {summary}; {', '.join(sizes)}"
    if project.entity and project.contract.columns[project.entity].pii == "hash":
        yield f"The parts will be about that large: the hash of {project.entity} divides them"
    if rehearsal.outside and project.time:
        rows = "row is" if rehearsal.outside == 1 else "rows are"
        yield (
            f"{rehearsal.outside:,} {rows} later: time.arrives_from is {project.time.arrives_from}"
        )
    if rehearsal.violations:
        yield "Violations of the contract:"
    yield from _broken(rehearsal.violations)


class SourceTrial(NamedTuple):
    """Result of checking a whole source against the contract."""

    rows: int
    accepted: int
    labelled: bool
    """Whether it has the target's column."""
    violations: tuple[Violation, ...]
    """Violations of the contract, the worst first."""


def try_source(project: Project) -> SourceTrial:
    """Hold all rows of the project's source against the contract, as those that arrive later are:
    neither target nor leakage need be there.

    Raises:
        SourceError: the source cannot be read, or has no rows.
        ContractError: a column is missing, or the data do not keep the contract.
    """
    source, terms = open_source(project), stage_terms(project, "current")
    checker = Checker(
        terms.contract,
        now=datetime.now(UTC).replace(tzinfo=None),
        time=terms.time,
        latest=terms.latest,
        at=source.at,
    )
    rows, labelled = 0, False
    for raw in source.batches(terms.contract.columns):
        labelled |= project.target in raw.schema.names
        batch = terms.complete(raw, source.at(rows + 1).place)
        checker.check(batch, np.arange(rows, rows + batch.num_rows, dtype=np.int64))
        rows += batch.num_rows
    first = source.at(checker.first_rejected)
    check_share(project, checker.reasons, checker.rejected, rows, first, examples=checker.examples)
    return SourceTrial(rows, rows - checker.rejected, labelled, checker.finish())


def trial_words(trial: SourceTrial, project: Project) -> Iterator[str]:
    """Summary of a checked file, line by line."""
    yield f"{trial.accepted:,} of {trial.rows:,} rows keep the contract"
    if not trial.labelled:
        yield f"It has no column {project.target!r}, the target: it can be scored, not learned from"
    if trial.violations:
        yield "Violations of the contract:"
    yield from _broken(trial.violations)


def _broken(violations: Sequence[Violation]) -> Iterator[str]:
    """The worst, each with the first rows and values that show it, personal data masked."""
    for violation in violations[:MAX_VIOLATIONS_SHOWN]:
        examples = violation.examples[:MAX_EXAMPLES_SHOWN]
        yield f"  {violation.model_copy(update={'examples': examples})}"
    if len(violations) > MAX_VIOLATIONS_SHOWN:
        yield f"  and {len(violations) - MAX_VIOLATIONS_SHOWN} more"


def _kept_apart(project: Project) -> str:
    return f"{project.entity} and {project.time.column if project.time else 'time'}"
