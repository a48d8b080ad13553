"""Records checked against the bundle's schema, and rows as records; whichever protocol they use."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import RequestError
from lifecycle.lake.column_types import Constraint, constraints_of, narrow
from lifecycle.project import ColumnSpec, ColumnType, Scalar
from lifecycle.records import ModelVersion

# What passes between the protocols and the model: a request in any of them is `PredictionRequest`,
# what the
# model says is `Answer`.
#
# A protocol is a module with `read(body, headers, …) -> Asked` and `write(answer, …) -> bytes`.

Records = list[dict[str, Any]]
Column = Sequence[Any] | NDArray[Any]
Headers = Mapping[bytes, bytes]
"""Names in lower case, as ASGI gives them."""


class PredictionRequest(NamedTuple):
    """Rows to predict, as records or as columns of one length; values are JSON's or NumPy's."""

    rows: int
    records: Records | None = None
    columns: Mapping[str, Column] | None = None
    name: str = ""
    """The client's own name of the request, where its protocol has one; it gets it back."""
    explain: bool = False
    """Whether the contributions of the features are asked for."""
    outputs: tuple[tuple[str, bool], ...] = ()
    """Outputs wanted, and whether as raw bytes, where a protocol lets a client choose."""
    joined: bool = False
    """Whether the features of views are in it already."""
    matrix: NDArray[Any] | None = None
    """(rows, inputs), what `columns` are views of, if all came as one tensor of present numbers."""
    body: bytes = b""
    """The JSON that `records` are of, if it is `{"records": […]}` and nothing else."""


class Answer(NamedTuple):
    """Predictions of one model version for one request."""

    id: str
    """Prediction id, unique; row i of the request is `<id>-<i>` in the prediction log."""
    model: ModelVersion
    predictions: NDArray[np.float64]
    """(rows,): probability of the positive class, value or count; multiclass (rows, classes)."""
    classes: tuple[Scalar, ...] = ()
    """Multiclass: what the columns of `predictions` are."""
    chosen: Sequence[Scalar] = ()
    """The class of each row: multiclass the most probable one, binary that of `labels`."""
    names: tuple[str, ...] = ()
    """Features, where contributions are given."""
    contributions: NDArray[np.float64] | None = None
    """(rows, features + 1), the last the bias; multiclass (rows, classes, features + 1)."""
    requested: str = ""
    """`Asked.name`."""
    labels: tuple[Scalar, ...] = ()
    """Binary with a `decision`: the two values that `chosen` has; empty otherwise."""


def identity(model: ModelVersion) -> dict[str, Any]:
    """Return name, version and digest of a model, as clients see them."""
    return {"name": model.name, "version": model.version, "digest": model.digest}


MAX_PROBLEMS_SHOWN = 10
LONGEST_VALUE = 60
"""Problems named in one answer, at most."""
LARGEST = 2**63
MISSING = object()
EXPECTED: dict[ColumnType, str] = {
    "integer": "a whole number",
    "number": "a finite number",
    "boolean": "true or false",
    "string": "text",
    "category": "a category",
    "datetime": "an ISO 8601 date or time",
}
DTYPES: dict[ColumnType, str] = {
    "integer": "Int64",
    "number": "float64",
    "boolean": "boolean",
    "string": "object",
    "category": "object",
    "datetime": "datetime64[us]",
}


def to_frame(records: Records, inputs: Mapping[str, ColumnSpec]) -> pd.DataFrame:
    """Records as the frame that training saw: columns of `inputs` in order, same types.

    Raises:
        RequestError: a field is missing, unknown, null, of the wrong type, not finite, out of its
            range or not one of its categories; one line a problem, with row and field.
    """
    problems: list[str] = []
    columns: dict[str, list[Any]] = {}
    for name, spec in inputs.items():
        columns[name] = _column(name, spec, records, problems)
        if len(problems) >= MAX_PROBLEMS_SHOWN:
            break
    problems += _unknown_fields(records, inputs)
    if problems:
        more = len(problems) - MAX_PROBLEMS_SHOWN
        listed = problems[:MAX_PROBLEMS_SHOWN] + ([f"… and {more} more"] if more > 0 else [])
        raise RequestError("\n".join(listed))
    return pd.DataFrame(
        {
            name: narrow(pd.Series(columns[name], dtype=DTYPES[spec.value_type]), spec)
            for name, spec in inputs.items()
        }
    )


def to_records(frame: pd.DataFrame) -> Records:
    """A frame's rows as JSON-able records; missing values become null, times ISO 8601."""
    columns = [[_plain(value) for value in frame[name].tolist()] for name in frame.columns]
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def curl_command(url: str, rows: pd.DataFrame) -> str:
    """A command for a shell that asks the endpoint for the predictions of these rows."""
    body = json.dumps({"records": to_records(rows)}).replace("'", "'\\''")
    return f"curl -s {url}/predict -H 'Content-Type: application/json' -d '{body}'"


def _column(name: str, spec: ColumnSpec, records: Records, problems: list[str]) -> list[Any]:
    """One field of every record; what is wrong with it goes to `problems`, at most a row each."""
    kind = spec.value_type
    convert, checks = _CONVERT[kind], constraints_of(spec)
    values: list[Any] = []
    for row, record in enumerate(records):
        raw = record.get(name, MISSING)
        value = None if raw is None or raw is MISSING else convert(raw)
        reason = _reason(raw, value, spec, kind, checks)
        if reason:
            problems.append(f"row {row}: {name}: {reason}")
            if len(problems) >= MAX_PROBLEMS_SHOWN:
                break
        values.append(value)
    return values


def _reason(
    raw: object, value: Any, spec: ColumnSpec, kind: ColumnType, checks: Sequence[Constraint]
) -> str | None:
    """Return the reason why a value is refused; None if it is valid."""
    if raw is MISSING:
        return None if spec.nullable else "this field is missing"
    if raw is None:
        return None if spec.nullable else "must not be null"
    if value is None:
        text = isinstance(raw, str) and kind in ("integer", "number")
        hint = ", which is text: send a JSON number" if text else ""
        return f"must be {EXPECTED[kind]}, got {json.dumps(raw)[:LONGEST_VALUE]}{hint}"
    broken = next((check for check in checks if not check.allows(value)), None)
    if broken is None:
        return None
    excerpt = value[:LONGEST_VALUE] if isinstance(value, str) else value
    return f"{broken.demand} got {excerpt!r}"


def _unknown_fields(records: Records, inputs: Mapping[str, ColumnSpec]) -> Iterator[str]:
    for row, record in enumerate(records):
        if not record.keys() <= inputs.keys():
            yield from (
                f"row {row}: {name}: unknown field" for name in record if name not in inputs
            )


def _integer(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, float) and raw.is_integer():  # JSON has one kind of number: 3.0 is 3
        raw = int(raw)
    return raw if isinstance(raw, int) and -LARGEST <= raw < LARGEST else None


def _number(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    try:
        value = float(raw)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _boolean(raw: object) -> bool | None:
    return raw if isinstance(raw, bool) else None


def _string(raw: object) -> str | None:
    return raw if isinstance(raw, str) else None


def _datetime(raw: object) -> datetime | None:
    """Times with a zone become UTC; the result has no zone, as in the contract."""
    if not isinstance(raw, str):
        return None
    try:
        time = datetime.fromisoformat(raw)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):
        return None


_CONVERT: dict[ColumnType, Callable[[object], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "category": _string,
    "datetime": _datetime,
}


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp | datetime):
        return None if value is pd.NaT else value.isoformat()
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
