"""A request's body as bytes, with a limit on what arrives and on what it inflates to."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from lifecycle.errors import MalformedRequestError, RequestError, RequestTooLargeError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
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
        raise UnsupportedEncodingError("content-encoding: only gzip and identity are read")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _rest(receive, body, limit)
        except TimeoutError:
            raise SlowBodyError(f"the body took longer than {BODY_SECONDS:.0f} s") from None
    elif message["type"] != "http.request":
        raise MalformedRequestError("the request ended before its body")
    if len(body) > limit:
        raise _too_large(limit)
    return _inflated(body, limit) if encoding == b"gzip" else body


async def _rest(receive: Receive, first: bytes, limit: int) -> bytes:
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
            raise MalformedRequestError(f"the body is no gzip: {error}") from None
        if len(plain) > limit:
            raise _too_large(limit)
        if not inflate.eof:
            raise MalformedRequestError("the body is no gzip: it ends too early")
        body = inflate.unused_data
        if not body.strip(b"\0"):
            return bytes(plain)


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"the body has more than {limit:,} bytes (serving.max_body_bytes)")
