"""Bodies of requests as JSON: what every protocol refuses alike."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from lifecycle.errors import MalformedRequestError, RequestError, RequestTooLargeError
from lifecycle.serving.wire import Records

SCALARS = frozenset({str, int, float, bool, type(None)})


def load_json(body: bytes | memoryview) -> Any:
    """The value a body holds; NaN and infinity are no JSON.

    Raises:
        MalformedRequestError: it is no JSON.
        RequestTooLargeError: it is nested deeper than orjson's 1024 levels.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):
            raise RequestTooLargeError(f"the body is nested too deeply: {error}") from None
        raise MalformedRequestError(f"the body is not JSON: {error}") from None


def load_object(body: bytes | memoryview, shape: str) -> dict[str, Any]:
    """As `load_json`, of a body that must be an object.

    Args:
        shape: what the protocol expects, for the message.

    Raises:
        MalformedRequestError: it is no JSON, or something else than an object.
        RequestTooLargeError: it is nested too deeply.
    """
    value = load_json(body)
    if type(value) is not dict:
        raise MalformedRequestError(f"the body must be {shape}")
    return value


def check_rows(rows: int, max_rows: int, where: str) -> None:
    """Between one row and as many as are allowed.

    Raises:
        RequestError: no row.
        RequestTooLargeError: too many.
    """
    if rows > max_rows:
        raise RequestTooLargeError(f"{where}: got {rows} rows, allowed are 1 to {max_rows}")
    if rows < 1:
        raise RequestError(f"{where}: got 0 rows, allowed are 1 to {max_rows}")


def check_records(records: Any, max_rows: int, where: str) -> Records:
    """A list of objects whose values are no lists or objects, however deep.

    Raises:
        MalformedRequestError: something else than a list of objects.
        RequestError: no row, or a value that is a list or an object; names row and field.
        RequestTooLargeError: too many rows.
    """
    if type(records) is not list:
        raise MalformedRequestError(f"{where}: must be a list of objects, one a row")
    check_rows(len(records), max_rows, where)
    plain = SCALARS.issuperset
    for row, record in enumerate(records):
        if type(record) is not dict:
            raise MalformedRequestError(f"{where}: row {row} is no object of column: value")
        if not plain(map(type, record.values())):
            _refuse_nested((row, *item) for item in record.items())
    return records


def check_columns(columns: Mapping[str, Any], max_rows: int, where: str) -> int:
    """Lists of one length, without lists or objects in them; how long they are.

    Raises:
        MalformedRequestError: a column is no list, or the lengths differ.
        RequestError: no row, or a value that is a list or an object; names row and field.
        RequestTooLargeError: too many rows.
    """
    rows = -1
    for name, values in columns.items():
        if type(values) is not list:
            raise MalformedRequestError(f"{where}: {name}: must be a list, one value a row")
        if rows not in (-1, len(values)):
            raise MalformedRequestError(
                f"{where}: {name}: has {len(values)} values, the columns before it {rows}"
            )
        rows = len(values)
        if not SCALARS.issuperset(map(type, values)):
            _refuse_nested((row, name, value) for row, value in enumerate(values))
    check_rows(max(rows, 0), max_rows, where)
    return rows


def as_list(value: Any) -> Any:
    """What orjson does not write itself: arrays that are not contiguous, and NumPy's scalars."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _refuse_nested(cells: Iterable[tuple[int, str, Any]]) -> None:
    for row, name, value in cells:
        if type(value) not in SCALARS:
            kind = "an object" if type(value) is dict else "a list"
            raise RequestError(f"row {row}: {name}: must be a single value, got {kind}")
