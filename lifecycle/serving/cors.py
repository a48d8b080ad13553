"""CORS: pages of other sites that may ask the endpoint and read its answers.

The protocol is that of https://fetch.spec.whatwg.org/#http-cors-protocol. A preflight brings no API
key, so it is answered without one. Cookies are never allowed: the endpoint has none.
"""

from collections.abc import Iterable

from lifecycle.serving.pages import TEXT, Reply

RawHeaders = tuple[tuple[bytes, bytes], ...]

ANY = b"*"
VARY = (b"vary", b"origin")
"""A cache must not hand one origin's answer to another."""
READABLE = (
    b"access-control-expose-headers",
    b"x-model-version, x-prediction-id, retry-after, inference-header-content-length",
)
PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, x-api-key, content-type, content-encoding, "
        b"inference-header-content-length",
    ),
    (b"access-control-max-age", b"600"),
)
ASKS = b"access-control-request-method"


class Origins:
    """The origins of `serving.allowed_origins`; without any, no header is added."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
        """Headers of an answer to such a request, error or not."""
        if not self._allowed:
            return ()
        if ANY in self._allowed:
            return (b"access-control-allow-origin", ANY), READABLE
        origin = next((value for name, value in request if name == b"origin"), b"")
        if origin not in self._allowed:
            return (VARY,)
        return (b"access-control-allow-origin", origin), READABLE, VARY

    def preflight(self, method: str, request: Iterable[tuple[bytes, bytes]]) -> Reply | None:
        """The answer to a browser that asks whether it may ask; None if this is no such request.

        An origin that is not allowed gets one, too, without the header that would let it in.
        """
        if method != "OPTIONS" or not self._allowed or all(name != ASKS for name, _ in request):
            return None
        return Reply(200, TEXT, b"", PREFLIGHT)
