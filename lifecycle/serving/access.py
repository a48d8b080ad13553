"""Who may ask the endpoint, and how often: the keys of `keystore`, held against each request."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from lifecycle.errors import AccessError, RateLimitError, SettingsError
from lifecycle.serving.keystore import INTERNAL, KeyStore

log = logging.getLogger(__name__)

OPEN = frozenset({"/health", "/ping", "/v2/health/live", "/v2/health/ready"})
"""Paths that load balancers ask, without a key."""
LOOK_SECONDS = 1.0
"""How often a replica looks whether the file has changed, at most."""


class Gatekeeper:
    """Lets a request in or not. One for a replica; not for several threads."""

    def __init__(
        self,
        file: Path | None,
        project: str,
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
        required: bool = True,
    ) -> None:
        """
        Args:
            file: the keys; None lets everybody in.
            replicas: how many share a key's rate.
            required: whether everybody needs a key. Otherwise only those that a release makes for
                itself count: its requests must be told from those of clients.
        """
        self._file = file
        self._required = required
        self._project = project
        self._replicas = replicas
        self._clock = clock
        self._look_at = -math.inf
        self._seen: object = ()
        self._guests: dict[bytes, _Guest] = {}
        self._problem = ""

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The name of the key a request carries; empty if none is needed.

        Costs about 2 µs.

        Args:
            headers: as ASGI gives them, names in lower case.

        Raises:
            AccessError: no key, two of them, or one that does not hold here.
            RateLimitError: the key has had its requests; `retry_after` says how long to wait.
        """
        if self._file is None:
            return ""
        if not self._required:
            return self._release(self._file, headers)
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(self._file)
        guest = self._guests.get(sha256(_credential(headers)).digest())
        if guest is None:
            raise AccessError("this API key does not hold here")
        if guest.rate:
            guest.spend(now)
        return guest.name

    def _release(self, file: Path, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The name of a release's own key; empty for everybody else, who is let in all the same.

        The file is looked at whenever a key comes, as there may be a new one since a moment ago.
        """
        sent = [value[7:].strip() for name, value in headers if name == b"authorization"]
        if len(sent) != 1 or not file.is_file():
            return ""
        self._look(file)
        guest = self._guests.get(sha256(sent[0]).digest())
        return guest.name if guest and guest.name.startswith(INTERNAL) else ""

    def _look(self, file: Path) -> None:
        """Read the file if it has changed. While it cannot be read nobody gets in."""
        try:
            found = file.stat()
            state: object = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError as error:
            state = error.strerror
        if state == self._seen:
            return
        self._seen = state
        former, self._guests = self._guests, {}
        try:
            if not isinstance(state, tuple):
                raise SettingsError(f"{file}: cannot read it ({state})")
            keys = KeyStore(file).list()
        except SettingsError as error:
            self._seen = ()  # what cannot be read may be readable without having changed
            if str(error) != self._problem:
                self._problem = str(error)
                effect = "every request is refused" if self._required else "no key counts"
                log.error("%s: %s", effect, error)
            return
        self._problem = ""
        for key in keys:
            if key.revoked or (key.projects and self._project not in key.projects):
                continue
            digest = bytes.fromhex(key.sha256)
            rate = (key.rate or 0.0) / self._replicas
            guest = former.get(digest)
            keep = guest is not None and (guest.name, guest.rate) == (key.name, rate)
            self._guests[digest] = guest if guest and keep else _Guest(key.name, rate)


class _Guest:
    """A key that holds, with its token bucket."""

    __slots__ = ("_at", "_most", "_tokens", "name", "rate")

    def __init__(self, name: str, rate: float) -> None:
        self.name = name
        self.rate = rate
        self._most = self._tokens = max(1.0, rate)
        self._at = -math.inf

    def spend(self, now: float) -> None:
        """Take a token of those that came since the last time.

        Raises:
            RateLimitError: there is none.
        """
        tokens = min(self._most, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if tokens < 1.0:
            self._tokens = tokens
            error = RateLimitError(f"the API key {self.name!r} sends too many requests a second")
            error.retry_after = math.ceil((1.0 - tokens) / self.rate)
            raise error
        self._tokens = tokens - 1.0


def _credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one key of a request.

    Raises:
        AccessError: there is none, or more than one.
    """
    found = None
    for name, value in headers:
        if name == b"authorization" or name == b"x-api-key":
            if found is not None:
                raise AccessError("this request has two API keys; send one")
            if name == b"authorization":
                if value[:7].lower() != b"bearer ":
                    raise AccessError("the Authorization header must be: Bearer <API key>")
                value = value[7:]
            found = value.strip()
    if not found:
        raise AccessError(
            "this endpoint needs an API key, as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'"
        )
    return found
