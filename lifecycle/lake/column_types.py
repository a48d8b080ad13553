"""A column's type and its constraints: cells as that type, or marked, and which values may be."""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.project import ColumnSpec, ColumnType

MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
"""Texts that mean `missing` where the contract does not ask for text."""
TRUE = ["true", "1", "yes", "t", "y", "1.0"]
FALSE = ["false", "0", "no", "f", "n", "0.0"]
WHOLE_NUMBER = r"^[+-]?[0-9]{1,18}(\.0*)?$"
EXACT = 2.0**53
"""Beyond it, a 64-bit float no longer tells two neighbouring whole numbers apart."""
MICROSECONDS_PER_DAY = 86_400_000_000
FAILURES: dict[ColumnType, str] = {
    "integer": "not a whole number",
    "number": "not a finite number",
    "boolean": "neither true nor false",
    "string": "not text",
    "category": "not one of the categories",
    "datetime": "not an ISO 8601 date or time",
}


WHOLE_BELOW = 2.0**63
"""Whole numbers are below it."""
VALUES_SHOWN = 10
ONLY_RE2 = re.compile(r"\(\?[^:]|\\[AzpPQC]|\[\[:")
"""What RE2 reads and JavaScript, whose expressions a JSON schema has, does not or otherwise."""


class Coerced(NamedTuple):
    """A column in its type; where a cell could not be, it is missing and `failed` is True."""

    values: pd.Series
    failed: NDArray[np.bool_]


def coerce(raw: pd.Series, kind: ColumnType) -> Coerced:
    """A raw column as whole numbers, `float64`, booleans, text, or `datetime64[us]`.

    Text of pandas' type `str` stays that, any other becomes object of str. Whole numbers are
    `int64` and booleans `bool` if numpy's types say that none is missing, else `Int64` and
    `boolean`. A column that has its type already is not copied.
    """
    if kind in ("string", "category"):
        return _to_text(raw)
    if kind == "datetime" and not pd.api.types.is_datetime64_any_dtype(raw.dtype):
        raw = _to_text(raw).values
    if raw.dtype == object or isinstance(raw.dtype, pd.StringDtype):
        raw = _without_missing_words(raw)
    convert = {
        "integer": _to_integer,
        "number": _to_number,
        "boolean": _to_boolean,
        "datetime": _to_datetime,
    }[kind]
    values = convert(raw)
    if values is raw:
        return Coerced(values, np.zeros(len(raw), dtype=bool))
    failed = (values.isna() & raw.notna()).to_numpy(dtype=bool)
    return Coerced(values, failed)


def narrow(values: pd.Series, spec: ColumnSpec) -> pd.Series:
    """The type of accepted rows: plain numpy types where nothing can be missing."""
    kind = spec.value_type
    if kind == "integer" and spec.nullable:
        return values if values.dtype == "Int64" else values.astype("Int64")
    if kind == "integer":
        return values if values.dtype == "int64" else values.astype("int64")
    if kind == "boolean" and spec.nullable:
        return values if values.dtype == "boolean" else values.astype("boolean")
    if kind == "boolean":
        return values if values.dtype == "bool" else values.astype("bool")
    return values


def holds_texts(values: pd.Series) -> bool:
    """Tell whether a column of objects has nothing but texts."""
    kind = pd.api.types.infer_dtype(values, skipna=True) if values.dtype == object else ""
    return kind in ("string", "empty")


def _to_text(raw: pd.Series) -> Coerced:
    none_failed = np.zeros(len(raw), dtype=bool)
    if isinstance(raw.dtype, pd.StringDtype):
        return Coerced(raw.astype("str"), none_failed)
    missing = raw.isna()
    if not holds_texts(raw):
        if pd.api.types.is_integer_dtype(raw.dtype):
            raw = raw.astype(str).astype(object)
        else:
            raw = pd.Series([_text(value) for value in raw], index=raw.index, dtype=object)
    return Coerced(raw.mask(missing, None) if missing.any() else raw, none_failed)


def _text(value: object) -> str:
    """One value's text, whatever stands beside it: 7.0 is `7`, and midnight is its day."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    if isinstance(value, pd.Timestamp) and value == value.normalize():
        return str(value.date())
    return str(value)


def _without_missing_words(raw: pd.Series) -> pd.Series:
    text = pa.array(raw.astype(str).where(raw.notna(), None), type=pa.string())
    text = pc.utf8_trim_whitespace(text)
    words = pc.is_in(text, value_set=pa.array(MISSING))
    text = pc.if_else(words, pa.scalar(None, pa.string()), text)
    return _as_series(text, raw.index)


def _to_integer(raw: pd.Series) -> pd.Series:
    if isinstance(raw.dtype, np.dtype) and raw.dtype.kind in "iu" and raw.dtype != np.uint64:
        return raw if raw.dtype == np.int64 else raw.astype("int64")
    if raw.dtype == np.uint64:
        raw = raw.astype(pd.UInt64Dtype()).where(raw <= np.iinfo(np.int64).max)
    if pd.api.types.is_bool_dtype(raw.dtype) or pd.api.types.is_integer_dtype(raw.dtype):
        return raw.astype(pd.Int64Dtype())
    if pd.api.types.is_float_dtype(raw.dtype):
        numbers = raw.astype("float64")
        integers = (numbers % 1 == 0) & (numbers.abs() <= EXACT)
        return numbers.where(integers).astype("Int64")
    text = pa.array(raw, type=pa.string())
    integers = pc.match_substring_regex(text, WHOLE_NUMBER)
    digits = pc.replace_substring_regex(text, r"^\+|\.0*$", "")
    numbers = pc.if_else(integers, digits, pa.scalar(None, pa.string())).cast(pa.int64())
    return _as_series(numbers, raw.index)


def _to_number(raw: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return pd.Series(np.nan, index=raw.index)
    numbers = raw
    if raw.dtype != np.float64:
        numbers = pd.to_numeric(raw, errors="coerce").astype("Float64").astype("float64")
    infinite = np.isinf(numbers.to_numpy())
    return numbers.mask(infinite) if infinite.any() else numbers


def _to_boolean(raw: pd.Series) -> pd.Series:
    if raw.dtype == bool:
        return raw
    if pd.api.types.is_bool_dtype(raw.dtype):
        return raw.astype("boolean")
    text = raw.astype(pd.StringDtype()).str.lower()
    values = pd.Series(pd.NA, index=raw.index, dtype="boolean")
    values[text.isin(TRUE).to_numpy(dtype=bool, na_value=False)] = True
    values[text.isin(FALSE).to_numpy(dtype=bool, na_value=False)] = False
    return values


def _to_datetime(raw: pd.Series) -> pd.Series:
    """Times with a zone become UTC; the result has no zone."""
    times = pd.to_datetime(raw, format="ISO8601", utc=True, errors="coerce")
    return times.dt.tz_localize(None).astype("datetime64[us]")


def _as_series(values: pa.Array | pa.ChunkedArray, index: pd.Index) -> pd.Series:
    series: pd.Series = values.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return series.set_axis(index)


# Frames and Arrow tables: the same columns, copied only where their memory differs.


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as Arrow; columns of numpy's whole numbers and booleans are marked not nullable.

    Numbers keep the frame's memory: change the frame, and the table has changed. Text is `string`
    whatever holds it in the frame, as its type is part of a table's digest.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [
        pa.field(
            field.name,
            pa.string() if pa.types.is_null(field.type) or is_text(field.type) else field.type,
            nullable=frame[field.name].dtype.kind not in "iub"
            or pd.api.types.is_extension_array_dtype(frame[field.name].dtype),
        )
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def to_frame(
    table: pa.Table,
    may_miss: Callable[[pa.Field, pa.ChunkedArray], bool],
    *,
    split_blocks: bool = False,
) -> pd.DataFrame:
    """A frame with index 0..n-1; column by column it takes over the memory of a table that its
    caller does not keep.

    Args:
        may_miss: whether a column of whole numbers or booleans becomes pandas' nullable `Int64` or
            `boolean`.
        split_blocks: leave each column where it is, read-only, where that saves its copy; else
            columns of one type lie together, which is what pandas works best on.
    """
    columns = [
        _column(field.name, _nullable_type(field.type) if may_miss(field, column) else "object")
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    metadata = {"index_columns": [], "column_indexes": [], "columns": columns}
    table = table.replace_schema_metadata({"pandas": json.dumps(metadata)})
    frame: pd.DataFrame = table.to_pandas(
        date_as_object=False, split_blocks=split_blocks, self_destruct=True
    )
    return frame


# What the values of a column must be, beyond its type: the one table and the one check, used by
# ingestion (Arrow), requests (one value) and the OpenAPI schema. A new kind of constraint is a
# field of `ColumnSpec`, a class here with its entry in `CONSTRAINTS`, and its cases in
# tests/lifecycle/lake/test_constraints.py.


class Constraint(ABC):
    """A constraint that a column declares. A missing value breaks none."""

    kind: str
    """Field of `ColumnSpec` that declares it."""

    def __init__(self, spec: ColumnSpec) -> None:
        self.spec = spec

    @abstractmethod
    def broken(self, values: pa.Array) -> NDArray[np.bool_] | None:
        """Mask of the values that break it (rows,); None if none does.

        Args:
            values: in the column's type, none of them missing.
        """

    @abstractmethod
    def allows(self, value: Any) -> bool:
        """Tell whether one value of the column's type keeps it, as `broken` does, for requests."""

    @property
    @abstractmethod
    def problem(self) -> str:
        """Say what is wrong with a row that breaks it, such as `below 0 kg`."""

    @property
    @abstractmethod
    def demand(self) -> str:
        """Message of a request is told, such as `must be at least 0,`, before the value it has."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Keywords of JSON Schema that say the same, as far as there are any."""


class Categories(Constraint):
    kind = "categories"

    def __init__(self, spec: ColumnSpec) -> None:
        super().__init__(spec)
        self._values = spec.categories or ()
        self._set: pa.Array | None = None

    def broken(self, values: pa.Array) -> NDArray[np.bool_] | None:
        if self._set is None:
            self._set = pa.array(_of_type(self._values, self.spec.value_type), values.type)
        return _unless(pc.is_in(values, value_set=self._set))

    def allows(self, value: Any) -> bool:
        return value in self._values

    @property
    def problem(self) -> str:
        return FAILURES["category"]

    @property
    def demand(self) -> str:
        more = ", …" * (len(self._values) > VALUES_SHOWN)
        return f"must be one of {', '.join(map(repr, self._values[:VALUES_SHOWN]))}{more};"

    def schema(self) -> dict[str, Any]:
        return {"enum": [*self._values, *([None] if self.spec.nullable else [])]}


class Minimum(Constraint):
    kind = "minimum"

    def __init__(self, spec: ColumnSpec) -> None:
        super().__init__(spec)
        self._end = -math.inf if spec.minimum is None else spec.minimum

    def broken(self, values: pa.Array) -> NDArray[np.bool_] | None:
        """Whole numbers are compared as whole numbers: a float cannot tell large ones apart."""
        numbers = values.to_numpy()
        if numbers.min().item() >= self._end:
            return None
        as_integer = numbers.dtype.kind == "i" and abs(self._end) < WHOLE_BELOW
        below: NDArray[np.bool_] = numbers < (math.ceil(self._end) if as_integer else self._end)
        return below

    def allows(self, value: Any) -> bool:
        return bool(value >= self._end)

    @property
    def problem(self) -> str:
        return f"below {self._end:g}{_unit(self.spec)}"

    @property
    def demand(self) -> str:
        return f"must be at least {self._end:g},"

    def schema(self) -> dict[str, Any]:
        return {"minimum": self._end}


class Maximum(Constraint):
    kind = "maximum"

    def __init__(self, spec: ColumnSpec) -> None:
        super().__init__(spec)
        self._end = math.inf if spec.maximum is None else spec.maximum

    def broken(self, values: pa.Array) -> NDArray[np.bool_] | None:
        """Mask as of `Minimum.broken`."""
        numbers = values.to_numpy()
        if numbers.max().item() <= self._end:
            return None
        as_integer = numbers.dtype.kind == "i" and abs(self._end) < WHOLE_BELOW
        above: NDArray[np.bool_] = numbers > (math.floor(self._end) if as_integer else self._end)
        return above

    def allows(self, value: Any) -> bool:
        return bool(value <= self._end)

    @property
    def problem(self) -> str:
        return f"above {self._end:g}{_unit(self.spec)}"

    @property
    def demand(self) -> str:
        return f"must be at most {self._end:g},"

    def schema(self) -> dict[str, Any]:
        return {"maximum": self._end}


class Pattern(Constraint):
    """The whole value matches a regular expression (RE2's, which Python does not have)."""

    kind = "pattern"

    def broken(self, values: pa.Array) -> NDArray[np.bool_] | None:
        return _unless(pc.match_substring_regex(values, rf"\A(?:{self.spec.pattern})\z"))

    def allows(self, value: Any) -> bool:
        return self.broken(pa.array([value], pa.string())) is None

    @property
    def problem(self) -> str:
        return f"not of the form {self.spec.pattern}"

    @property
    def demand(self) -> str:
        return f"must be of the form {self.spec.pattern},"

    def schema(self) -> dict[str, Any]:
        """Return the pattern, or nothing if JavaScript cannot read it, such as RE2's flags."""
        pattern = self.spec.pattern or ""
        return {} if ONLY_RE2.search(pattern) else {"pattern": f"^(?:{pattern})$"}


CONSTRAINTS: tuple[type[Constraint], ...] = (Categories, Minimum, Maximum, Pattern)
"""All kinds, in the order in which a request is checked; it is told of the first violation."""


def constraints_of(spec: ColumnSpec) -> tuple[Constraint, ...]:
    """The constraints that a column declares."""
    return tuple(kind(spec) for kind in CONSTRAINTS if getattr(spec, kind.kind) is not None)


def _of_type(values: Iterable[Any], kind: ColumnType) -> list[Any]:
    """Values in a column's type; what cannot be of the type equals no value."""
    if kind == "integer":
        return [int(value) for value in values if float(value).is_integer()]
    if kind == "number":
        return [float(value) for value in values]
    if kind == "boolean":
        return [bool(value) for value in values if value in (0, 1)]
    return list(values)


def _unless(holds: pa.BooleanArray) -> NDArray[np.bool_] | None:
    broken: NDArray[np.bool_] = ~holds.to_numpy(zero_copy_only=False)
    return broken if broken.any() else None


def _unit(spec: ColumnSpec) -> str:
    return f" {spec.unit}" if spec.unit else ""


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values are text, whichever of Arrow's types holds them."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Tell whether values have a mean."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def release_memory() -> None:
    """Give back what Arrow keeps of tables that are gone: training comes next, and needs it."""
    pa.default_memory_pool().release_unused()


def _nullable_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "boolean"
    return "Int64" if pa.types.is_integer(kind) else "object"


def _column(name: str, numpy_type: str) -> dict[str, Any]:
    """A column of pandas' metadata, which name one column's type; `object` leaves it to Arrow."""
    names = {"name": name, "field_name": name, "pandas_type": "", "metadata": None}
    return names | {"numpy_type": numpy_type}
