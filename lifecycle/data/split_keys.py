"""What a split needs to know of each row: the part its entity is in, its period, its target."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.periods import Starts, starts_of
from lifecycle.data.place import Places, places
from lifecycle.lake import is_nullable, open_version
from lifecycle.lake.arrow import is_text, to_frame
from lifecycle.project import Project, SplitSpec, TimeSpec
from lifecycle.records import DatasetVersion


class Keys(NamedTuple):
    """What decides on the rows' parts, in nine bytes a row at most."""

    rows: int
    places: Places | None
    """By entity; None without one."""
    starts: Starts | None
    """Of the rows' periods; None without a time."""

    def of(self, rows: NDArray[np.bool_] | slice) -> "Keys":
        """Those of some rows."""
        count = rows.stop if isinstance(rows, slice) else int(rows.sum())
        places = None if self.places is None else self.places[rows]
        return Keys(count, places, None if self.starts is None else self.starts[rows])

    def room_for(self, rows: int) -> "Keys":
        """Like these, but empty and of another length."""
        places = None if self.places is None else np.empty(rows, self.places.dtype)
        return Keys(
            rows, places, None if self.starts is None else np.empty(rows, self.starts.dtype)
        )


def keys_of(
    frame: pd.DataFrame, spec: SplitSpec, entity: str | None, time: TimeSpec | None
) -> Keys:
    """The keys of a frame, typed as the contract says."""
    return Keys(
        len(frame),
        places(frame[entity], spec) if entity else None,
        starts_of(frame[time.column], time) if time else None,
    )


def read_keys(dataset: DatasetVersion, project: Project) -> tuple["pd.Series[Any]", Keys]:
    """The target and the keys of a version, in one pass over their columns.

    Raises:
        BackendError: the lake cannot be read.
    """
    spec, entity, time = project.split, project.entity, project.time
    wanted = [project.target, entity, time.column if time else None]
    names = list(dict.fromkeys(name for name in wanted if name is not None))
    targets: list[pa.Array] = []
    keys: Keys | None = None
    rows = 0
    for batch in open_version(dataset, names):
        field = batch.schema.field(project.target)
        target = batch.column(project.target)
        # each text once: as a value of its own it takes 60 bytes
        targets.append(target.dictionary_encode() if is_text(target.type) else target)
        frame = to_frame(pa.Table.from_batches([batch]), is_nullable)
        some = keys_of(frame, spec, entity, time)
        keys = keys or some.room_for(dataset.rows)
        for whole, part in zip(keys[1:], some[1:], strict=True):
            if whole is not None and part is not None:
                whole[rows : rows + some.rows] = part
        rows += some.rows
    if keys is None:
        return pd.Series(dtype=np.float64), Keys(0, None, None)
    column = pa.chunked_array(targets)
    if pa.types.is_dictionary(column.type):
        values = column.unify_dictionaries().to_pandas()
    else:
        table = pa.table([column], schema=pa.schema([field]))
        del column, targets
        values = to_frame(table, is_nullable)[project.target]
    return values, keys.of(
        slice(rows)
    )  # fewer than the version was written with, if some are erased
