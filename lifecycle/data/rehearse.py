"""What ingestion and split would make of a source, batch by batch, without writing anything."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.data.arrivals import first_window, inside
from lifecycle.data.arrow import to_frame
from lifecycle.data.contract import Checker, check_columns
from lifecycle.data.lake import is_nullable
from lifecycle.data.share import check_share
from lifecycle.data.sources import open_source
from lifecycle.data.split import Parts, divide
from lifecycle.errors import SourceError
from lifecycle.project import Project
from lifecycle.records import Window

HEAD = 1_000
"""Rows kept, to try on them what takes a frame."""


class Rehearsal(NamedTuple):
    """What would be."""

    window: Window
    rows: int
    """In the window."""
    accepted: int
    head: pd.DataFrame
    """The first accepted rows, as a version would have them."""
    parts: Parts


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
    checker = Checker(project.contract, now=now, time=time)
    deciding = list(dict.fromkeys(filter(None, (project.target, project.entity, time))))
    source = open_source(project)
    read, rows, accepted = 0, 0, 0
    head: list[pa.RecordBatch] = []
    kept: list[pa.RecordBatch] = []
    for batch in source.batches(project.contract.columns):
        check_columns(batch.schema.names, project.contract)
        numbers = np.arange(read, read + batch.num_rows, dtype=np.int64)
        read += batch.num_rows
        wanted = inside(batch, project, window)
        if wanted is not None:
            batch, numbers = batch.filter(pa.array(wanted)), numbers[wanted]
        rows += batch.num_rows
        good = checker.check(batch, numbers).accepted
        if accepted < HEAD:
            head.append(good.slice(0, HEAD - accepted))
        accepted += good.num_rows
        kept.append(good.select(deciding))
    if not rows:
        raise SourceError(f"{source.place}: no rows in the window {window}")
    check_share(project, checker.reasons, checker.rejected, rows, checker.first_rejected)
    checker.finish()
    keys = to_frame(pa.Table.from_batches(kept), is_nullable)
    return Rehearsal(
        window=window,
        rows=rows,
        accepted=accepted,
        head=to_frame(pa.Table.from_batches(head), is_nullable),
        parts=divide(keys, project),
    )
