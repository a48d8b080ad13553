"""Bodies of requests as JSON: what every protocol refuses alike."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import numpy as np
import orjson

from lifecycle.errors import MalformedRequestError, RequestError, RequestTooLargeError
from lifecycle.serving.records import PredictionRequest, Records

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

SCALARS = frozenset({str, int, float, bool, type(None)})
ESCAPED_COLON = rb"\u003a"


def load_json(body: bytes | memoryview) -> Any:
    """The value a body holds; NaN and infinity are no JSON.

    Raises:
        MalformedRequestError: it is no JSON, or an object in it has a name twice.
        RequestTooLargeError: it is nested deeper than orjson's 1024 levels.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):
            raise RequestTooLargeError(f"the body is nested too deeply: {error}") from None
        raise MalformedRequestError(f"the body is not JSON: {error}") from None
    _check_names(bytes(body), value)
    return value


def _check_names(body: bytes, value: Any) -> None:
    """See that no object has a name twice, of which orjson takes the last.

    A body has a colon for each name, and those in its texts; a name that is given twice has one
    more than what was read of it.

    Raises:
        MalformedRequestError: an object has.
    """
    more = body.count(b":") - _keys(value)
    if more and (ESCAPED_COLON in body.lower() or more != _colons(value)):
        _refuse_twice(body)


def _keys(value: Any) -> int:
    """Names of all objects in a value, as far as it is cheap to count them."""
    count, stack = 0, [value]
    while stack:
        node = stack.pop()
        if type(node) is dict:
            count += len(node)
            stack += [part for part in node.values() if type(part) in (dict, list)]
        elif type(node) is list and node and type(node[0]) in (dict, list):
            stack += [part for part in node if type(part) in (dict, list)]
    return count


def _colons(value: Any) -> int:
    """Colons in all names and texts of a value."""
    count, stack = (value.count(":") if type(value) is str else 0), [value]
    while stack:
        parts = stack.pop()
        if type(parts) is dict:
            count += "".join(parts).count(":")
            parts = parts.values()
        elif type(parts) is not list:
            continue
        count += "".join([part for part in parts if type(part) is str]).count(":")
        if not SCALARS.issuperset(map(type, parts)):
            stack += [part for part in parts if type(part) in (dict, list)]
    return count


def _refuse_twice(body: bytes) -> None:
    """Look for a name that an object has twice.

    Raises:
        MalformedRequestError: there is one.
    """

    def unique(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            repeated = next(name for at, name in enumerate(names) if name in names[:at])
            raise MalformedRequestError(
                f"the body has {repeated[:60]!r} twice in one object; give each field once"
            )

    with suppress(RecursionError):  # deeper than any request of ours
        json.loads(body, object_pairs_hook=unique)


def load_object(body: bytes | memoryview, shape: str) -> dict[str, Any]:
    """Parse a JSON body that must be an object, as `load_json` does.

    Args:
        shape: what the protocol expects, for the message.

    Raises:
        MalformedRequestError: the body is not JSON, or not an object.
        RequestTooLargeError: the body is nested too deeply.
    """
    value = load_json(body)
    if type(value) is not dict:
        raise MalformedRequestError(f"the body must be {shape}")
    return value


def check_rows(rows: int, max_rows: int, where: str) -> None:
    """Check that a request has between 1 and `max_rows` rows.

    Raises:
        RequestError: the request has no row.
        RequestTooLargeError: the request has more than `max_rows` rows.
    """
    if rows > max_rows:
        raise RequestTooLargeError(f"{where}: got {rows} rows, allowed are 1 to {max_rows}")
    if rows < 1:
        raise RequestError(f"{where}: got 0 rows, allowed are 1 to {max_rows}")


def check_records(
    records: Any, max_rows: int, where: str, names: Collection[str] | None = None
) -> Records:
    """A list of objects whose values are no lists or objects, however deep.

    Args:
        names: fields of which that holds, where others are ignored; None is all.

    Raises:
        MalformedRequestError: something else than a list of objects.
        RequestError: no row, or a value that is a list or an object; names row and field.
        RequestTooLargeError: too many rows.
    """
    if type(records) is not list:
        raise MalformedRequestError(f"{where}: must be a list of objects, one per row")
    check_rows(len(records), max_rows, where)
    plain = SCALARS.issuperset
    for row, record in enumerate(records):
        if type(record) is not dict:
            raise MalformedRequestError(f"{where}: row {row} is not an object of column: value")
        if not plain(map(type, record.values())):
            cells = ((row, *item) for item in record.items())
            _refuse_nested(cell for cell in cells if names is None or cell[1] in names)
    return records


def check_columns(
    columns: Mapping[str, Any], max_rows: int, where: str, names: Collection[str] | None = None
) -> int:
    """Lists of one length, without lists or objects in them; how long they are.

    Args:
        names: columns of which the latter holds, where others are ignored; None is all.

    Raises:
        MalformedRequestError: a column is no list, or the lengths differ.
        RequestError: no row, or a value that is a list or an object; names row and field.
        RequestTooLargeError: too many rows.
    """
    rows = -1
    for name, values in columns.items():
        if type(values) is not list:
            raise MalformedRequestError(f"{where}: {name}: must be a list, one value per row")
        if rows not in (-1, len(values)):
            raise MalformedRequestError(
                f"{where}: {name}: has {len(values)} values, but the columns before it have {rows}"
            )
        rows = len(values)
        if (names is None or name in names) and not SCALARS.issuperset(map(type, values)):
            _refuse_nested((row, name, value) for row, value in enumerate(values))
    check_rows(max(rows, 0), max_rows, where)
    return rows


def unknown_fields(request: PredictionRequest, names: AbstractSet[str]) -> tuple[int, str]:
    """Count the fields of a request's rows that are not in `names`; return one such name too."""
    if request.records is None:
        others = (request.columns or {}).keys() - names
        return len(others) * request.rows, min(others, default="")
    unknown = [record.keys() - names for record in request.records if not record.keys() <= names]
    return sum(map(len, unknown)), min(unknown[0]) if unknown else ""


def as_list(value: Any) -> Any:
    """Convert what orjson cannot write: arrays that are not contiguous, and NumPy scalars."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _refuse_nested(cells: Iterable[tuple[int, str, Any]]) -> None:
    for row, name, value in cells:
        if type(value) not in SCALARS:
            kind = "an object" if type(value) is dict else "a list"
            raise RequestError(f"row {row}: {name}: must be a single value, got {kind}")


# Reading of a request's body, with a limit on its size before and after inflating.

GZIP = 16 + zlib.MAX_WBITS
"""How zlib is told to expect gzip's header."""


BODY_SECONDS = 30.0
"""How long the rest of a body may take; HAProxy sends small ones whole."""


class SlowBodyError(RequestError):
    """A body that does not come to its end in time."""

    status = 408


class UnsupportedEncodingError(RequestError):
    """A body that is compressed in another way than gzip."""

    status = 415


async def read_body(receive: Receive, headers: Iterable[tuple[bytes, bytes]], limit: int) -> bytes:
    """The whole body, inflated if it is gzip.

    Args:
        limit: bytes, at most, before and after inflating.

    Raises:
        RequestTooLargeError: it has more bytes; no more than `limit` are ever kept.
        UnsupportedEncodingError: it is compressed otherwise.
        SlowBodyError: its end does not come in time.
        MalformedRequestError: it is no gzip, or the client went away.
    """
    encoding = b""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise _too_large(limit)
        if name == b"content-encoding":
            encoding = value.strip().lower()
    if encoding not in (b"", b"identity", b"gzip"):
        raise UnsupportedEncodingError("content-encoding: only gzip and identity are supported")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_rest(receive, body, limit)
        except TimeoutError:
            raise SlowBodyError(f"the body took longer than {BODY_SECONDS:.0f} s") from None
    elif message["type"] != "http.request":
        raise MalformedRequestError("the request ended before its body")
    if len(body) > limit:
        raise _too_large(limit)
    return _inflated(body, limit) if encoding == b"gzip" else body


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    parts = bytearray(first)
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedRequestError("the request ended before its body")
        parts += message.get("body", b"")
        if len(parts) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return bytes(parts)


def _inflated(body: bytes, limit: int) -> bytes:
    """All members of a gzip, one after another (RFC 1952, 2.2); zeros behind the last are let be,
    as gzip does."""
    plain = bytearray()
    while True:
        inflate = zlib.decompressobj(GZIP)
        try:
            plain += inflate.decompress(body, limit + 1 - len(plain))
        except zlib.error as error:
            raise MalformedRequestError(f"the body is not gzip: {error}") from None
        if len(plain) > limit:
            raise _too_large(limit)
        if not inflate.eof:
            raise MalformedRequestError("the body is not gzip: it ends too early")
        body = inflate.unused_data
        if not body.strip(b"\0"):
            return bytes(plain)


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"the body has more than {limit:,} bytes (serving.max_body_bytes)")
