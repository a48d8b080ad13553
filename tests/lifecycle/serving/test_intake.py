"""Bodies that come in pieces, late, too large or inflated."""

import asyncio
import gzip
from collections.abc import MutableMapping
from typing import Any

import pytest

from lifecycle.errors import MalformedRequestError, RequestError, RequestTooLargeError
from lifecycle.serving import body
from lifecycle.serving.body import SlowBodyError, UnsupportedEncodingError, read_body

LIMIT = 1000


def read(*parts: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), silent: float = 0) -> bytes:
    """A body in these parts; after the first the client says nothing for `silent` seconds."""
    last = len(parts) - 1
    messages = [
        {"type": "http.request", "body": part, "more_body": at < last}
        for at, part in enumerate(parts)
    ]

    async def receive() -> MutableMapping[str, Any]:
        if len(messages) <= last:
            await asyncio.sleep(silent)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return asyncio.run(read_body(receive, headers, LIMIT))


def test_parts_are_one_body() -> None:
    assert read(b"abc") == b"abc"
    assert read(b"ab", b"", b"c") == b"abc"
    assert read(gzip.compress(b"abc"), headers=((b"content-encoding", b"GZIP"),)) == b"abc"


def test_a_body_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)
    with pytest.raises(SlowBodyError, match="took longer") as caught:
        read(b"a", b"b", silent=5)
    assert caught.value.status == 408


@pytest.mark.parametrize(
    ("parts", "headers", "error"),
    [
        ((b"a",), ((b"content-length", b"1001"),), RequestTooLargeError),
        ((b"a" * 1001,), (), RequestTooLargeError),
        ((b"a" * 600, b"a" * 600), (), RequestTooLargeError),
        ((gzip.compress(b"a" * 1001),), ((b"content-encoding", b"gzip"),), RequestTooLargeError),
        ((gzip.compress(b"abc")[:-4],), ((b"content-encoding", b"gzip"),), MalformedRequestError),
        ((b"abc",), ((b"content-encoding", b"gzip"),), MalformedRequestError),
        ((b"abc",), ((b"content-encoding", b"br"),), UnsupportedEncodingError),
        ((), (), MalformedRequestError),
    ],
)
def test_what_is_refused(
    parts: tuple[bytes, ...],
    headers: tuple[tuple[bytes, bytes], ...],
    error: type[RequestError],
) -> None:
    with pytest.raises(error):
        read(*parts, headers=headers)
