"""Difference between two versions of a table: schema, rows, and each column's distribution.

Columns are read one at a time: one column of each version is in memory, and eight bytes per row for
the content. Rows are compared by 64-bit hashes: among 20 million rows, two different ones are taken
for equal with a probability of 1 in 90,000 (birthday bound, n²/2⁶⁵).
"""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.contract.quarantine import RECORD
from lifecycle.data.contract.quarantine import TABLE as REJECTED
from lifecycle.lake.column_types import is_number
from lifecycle.lake.read import read_table, stored_schema
from lifecycle.lake.row_hash import Hashes, by_content, by_key, fold, hashes_of, pairs_of
from lifecycle.profiling.compare import cramers_v, kolmogorov_smirnov
from lifecycle.project import ContractSpec
from lifecycle.records import DatasetVersion
from lifecycle.records.data import ColumnDiff, Moments, RowsDiff, SchemaDiff, VersionDiff

# Distance between the distributions of one column in two versions.

SAMPLE = 1_000_000
"""Values of a numeric column its statistic is about, at most: an even choice of the rows. For rows
in no order it is within 0.004 of that of all rows 998 times in 1,000 (Massart 1990)."""
LEVELS = 1_000
"""Values above which text is no category."""
PEEK = 100_000
"""Rows that are looked at before all levels are counted."""
MAX_LEVELS_SHOWN = 10
MISSING = "(missing)"


def moved(
    name: str, former: pa.ChunkedArray, present: pa.ChunkedArray, category: bool, show_values: bool
) -> ColumnDiff:
    """Compare a column of two versions.

    Args:
        category: whether numbers of it are categories.
        show_values: whether the column's values may be shown; personal ones may not.
    """
    kinds = (former.type, present.type)
    moments = {
        "column": name,
        "former": _moments(former, show_values),
        "present": _moments(present, show_values),
        "test": None,
        "statistic": None,
    }
    numeric = all(is_number(kind) or pa.types.is_temporal(kind) for kind in kinds)
    if not (len(former) and len(present)):
        return ColumnDiff.model_validate(moments)
    if numeric and not category:
        statistic = kolmogorov_smirnov(_sample(former), _sample(present))
        return ColumnDiff.model_validate(
            moments | {"test": "kolmogorov_smirnov", "statistic": statistic}
        )
    before, after = _levels(former), _levels(present)
    if before is None or after is None:
        return ColumnDiff.model_validate(moments)
    names = [*before, *(level for level in after if level not in before)]
    counts = [
        np.array([side.get(level, 0) for level in names], dtype=np.float64)
        for side in (before, after)
    ]
    moments |= {
        "test": "cramers_v",
        "statistic": cramers_v(counts[0] / len(former), counts[1] / len(present)),
    }
    if show_values:
        moments |= {"new_levels": _only(after, before), "gone_levels": _only(before, after)}
    return ColumnDiff.model_validate(moments)


def _only(here: dict[str, int], others: dict[str, int]) -> tuple[str, ...]:
    levels = sorted(
        (level for level in here if level not in others), key=lambda level: -here[level]
    )
    return tuple(levels[:MAX_LEVELS_SHOWN])


def _moments(column: pa.ChunkedArray, show_values: bool) -> Moments:
    missing = Moments(missing=column.null_count)
    if pa.types.is_temporal(column.type):
        ends = pc.min_max(column).as_py()
        ends_as_text = {key: str(ends[key[:3]]) for key in ("minimum", "maximum") if show_values}
        return missing.model_copy(update=ends_as_text if ends["min"] is not None else {})
    if not is_number(column.type) or column.null_count == len(column):
        return missing
    numbers = column.cast(pa.float64(), safe=False)
    ends = pc.min_max(numbers).as_py() if show_values else {"min": None, "max": None}
    return Moments(
        missing=column.null_count,
        mean=_finite(pc.mean(numbers).as_py()),
        deviation=_finite(pc.stddev(numbers, ddof=1).as_py()),
        minimum=_finite(ends["min"]),
        maximum=_finite(ends["max"]),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _sample(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """An even choice of the values as floats, missing ones NaN; times in microseconds."""
    step = math.ceil(len(column) / SAMPLE)
    if step > 1:
        column = column.take(pa.array(np.arange(0, len(column), step)))
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    floats = column.cast(pa.float64(), safe=False).to_numpy()
    return np.asarray(floats, dtype=np.float64)


def _levels(column: pa.ChunkedArray) -> dict[str, int] | None:
    """Value as text → rows, missing among them; None if there are more than `LEVELS`."""
    if pa.types.is_nested(column.type):
        return None
    if pc.count_distinct(column.slice(0, PEEK)).as_py() > LEVELS:
        return None
    counts = column.value_counts()
    if len(counts) > LEVELS:
        return None
    return {
        MISSING if count["values"] is None else str(count["values"]): count["counts"]
        for count in counts.to_pylist()
    }


Sides = tuple[DatasetVersion, DatasetVersion]


def diff(
    former: DatasetVersion, present: DatasetVersion, contract: ContractSpec | None = None
) -> VersionDiff:
    """Compare two versions, of one table or of two.

    Rows are matched by the contract's key, else by their whole content in the columns both have. A
    key that a version lacks or that repeats cannot match rows; the record says so then.

    Args:
        contract: its key matches rows; values of columns it calls personal are not named.

    Raises:
        BackendError: a version cannot be read.
    """
    sides = (former, present)
    before, after = stored_schema(former), stored_schema(present)
    names = [name for name in before.names if _comparable(name, before, after)]
    integers = {name: _is_whole(name, before, after) for name in names}
    specs = contract.columns if contract else {}
    hidden = {name for name, spec in specs.items() if spec.pii in ("hash", "drop")}
    if any(side.uri.rstrip("/").endswith(f"/{REJECTED}") for side in sides):
        hidden.add(RECORD)  # it has values of all columns in one
    categories = {name for name, spec in specs.items() if spec.type == "category"}
    key = contract.key if contract and set(contract.key) <= set(names) else ()
    content: list[Hashes | None] = [None, None]
    keys: list[Hashes | None] = [None, None]
    columns = []
    for name in names:
        values = _column(former, name), _column(present, name)
        columns.append(moved(name, *values, name in categories, name not in hidden))
        for side, column in enumerate(values):
            hashes = hashes_of(column, integers[name])
            content[side] = _with(content[side], hashes)
            if name in key:
                keys[side] = _with(keys[side], hashes)
    rows = _rows(sides, content, keys, key, integers)
    if contract and contract.key and not rows.key:
        reason = "repeats" if key else "is not in both"
        note = f"the key {', '.join(contract.key)} {reason}; rows are compared whole"
        rows = rows.model_copy(update={"note": note})
    return VersionDiff(
        former=former,
        present=present,
        columns_diff=_schema_diff(before, after),
        rows=rows,
        columns=tuple(columns),
    )


def _with(rows: Hashes | None, column: Hashes) -> Hashes:
    return fold(np.zeros(len(column), np.uint64) if rows is None else rows, column)


def _rows(
    sides: Sides,
    content: list[Hashes | None],
    keys: list[Hashes | None],
    key: tuple[str, ...],
    integers: dict[str, bool],
) -> RowsDiff:
    before, after = content
    if before is None or after is None:
        note = "they have no column in common"
        former, present = sides
        return RowsDiff(
            key=(), same=0, added=present.rows, removed=former.rows, changed=None, note=note
        )
    pairs = None
    if keys[0] is not None and keys[1] is not None:
        pairs = pairs_of(keys[0], keys[1])
    if pairs is None:
        return by_content(before, after)
    rows, changed = by_key(key, pairs, before, after)
    if not rows.changed:
        return rows
    changed_in = {}
    for name in (name for name in integers if name not in key):
        first, other = (
            hashes_of(_column(version, name), integers[name])[at[changed]]
            for version, at in zip(sides, pairs, strict=True)
        )
        if count := int((first != other).sum()):
            changed_in[name] = count
    most_first = dict(sorted(changed_in.items(), key=lambda item: -item[1]))
    return rows.model_copy(update={"changed_in": most_first})


def _column(version: DatasetVersion, name: str) -> pa.ChunkedArray:
    return read_table(version, [name])[name]


def _schema_diff(before: pa.Schema, after: pa.Schema) -> SchemaDiff:
    then, now = ({field.name: _type(field) for field in schema} for schema in (before, after))
    return SchemaDiff(
        added={name: kind for name, kind in now.items() if name not in then},
        removed={name: kind for name, kind in then.items() if name not in now},
        changed={
            name: (kind, now[name])
            for name, kind in then.items()
            if name in now and now[name] != kind
        },
    )


def _type(field: pa.Field) -> str:
    kind = str(field.type).removeprefix("large_")
    return f"{kind}?" if field.nullable else kind


def _comparable(name: str, before: pa.Schema, after: pa.Schema) -> bool:
    """Return whether both versions have the column, with values of one kind."""
    if name not in after.names:
        return False
    return _kind(before.field(name).type) == _kind(after.field(name).type)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_temporal(kind):
        return "time"
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return "number" if number else str(kind).removeprefix("large_")


def _is_whole(name: str, before: pa.Schema, after: pa.Schema) -> bool:
    return not any(pa.types.is_floating(schema.field(name).type) for schema in (before, after))
