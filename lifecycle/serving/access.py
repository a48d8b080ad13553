"""API keys: kept as hashes in one file, asked for at the endpoint, limited in requests a second.

A key is 32 random bytes, so plain SHA-256 is enough at rest: there is nothing to guess that a slow
hash would make slower, and each request would pay for it.
"""

import fcntl
import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.errors import AccessError, RateLimitError, SettingsError

log = logging.getLogger(__name__)

PREFIX = "lc_"
"""So that scanners for leaked secrets can know our keys."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
LOOK_SECONDS = 1.0
"""How often a replica looks whether the file has changed, at most."""
OPEN = frozenset({"/health", "/ping", "/v2/health/live", "/v2/health/ready"})
"""Paths that load balancers ask, without a key."""


class Key(BaseModel):
    """What is kept of an API key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Requests a second over all replicas; as many at once after a pause, but at least one."""
    projects: tuple[str, ...] = ()
    """Projects it opens; all if there are none."""
    revoked: bool = False


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...]


class KeyStore:
    """The file of the keys; several processes may change it at the same time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, name: str, rate: float | None = None, projects: Iterable[str] = ()) -> str:
        """Make a key.

        Args:
            rate: requests a second.
            projects: names of the projects it opens; without any, all.

        Returns:
            The key itself, which is kept nowhere.

        Raises:
            SettingsError: the name is in use or unfit, the rate is, or the file cannot be written.
        """
        if not NAME.fullmatch(name):
            raise SettingsError(
                f"key name {name!r}: use 1 to 64 letters, digits and any of . _ @ -, "
                "a letter or digit first"
            )
        key = PREFIX + secrets.token_urlsafe(32)
        try:
            made = Key(
                name=name,
                sha256=sha256(key.encode()).hexdigest(),
                created=datetime.now(UTC),
                rate=rate,
                projects=tuple(projects),
            )
        except ValidationError:
            raise SettingsError(
                f"key {name!r}: the rate must be above 0 requests a second (got {rate})"
            ) from None
        with self._change() as keys:
            taken = next((k for k in keys if k.name == name), None)
            if taken:
                state = "revoked, and names are not used twice" if taken.revoked else "in use"
                raise SettingsError(f"key {name!r} of {self.file} is {state}; choose another name")
            keys.append(made)
        return key

    def revoke(self, name: str) -> None:
        """Make a key worthless; replicas know within 2 seconds.

        Raises:
            SettingsError: there is no key of this name, or the file cannot be written.
        """
        with self._change() as keys:
            for place, key in enumerate(keys):
                if key.name == name:
                    keys[place] = key.model_copy(update={"revoked": True})
                    return
            names = ", ".join(key.name for key in keys if not key.revoked) or "none"
            raise SettingsError(f"{self.file} has no key {name!r}; keys in use: {names}")

    def list(self) -> tuple[Key, ...]:
        """All keys, the revoked ones too; none if there is no file.

        Raises:
            SettingsError: the file cannot be read, or is no file of keys.
        """
        try:
            return _Keys.model_validate_json(self.file.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SettingsError(f"{self.file}: cannot read it ({error.strerror})") from None
        except ValidationError:
            raise SettingsError(
                f"{self.file}: this is no file of API keys; restore it, or name another one with "
                "LIFECYCLE_SERVE_KEYS"
            ) from None

    @contextmanager
    def _change(self) -> Iterator[MutableSequence[Key]]:
        """The keys, to be changed in place; written aside and renamed under a lock."""
        aside = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file.with_name(f"{self.file.name}.lock"), "w", opener=_private) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = [*self.list()]
                yield keys
                text = json.dumps(_Keys(keys=tuple(keys)).model_dump(mode="json"), indent=1)
                with open(aside, "w", opener=_private) as out:
                    out.write(text + "\n")
                aside.replace(self.file)
        except OSError as error:
            raise SettingsError(
                f"{self.file}: cannot write it ({error.strerror}); name another file with "
                "LIFECYCLE_SERVE_KEYS"
            ) from None


class Gatekeeper:
    """Lets a request in or not. One for a replica; not for several threads."""

    def __init__(
        self,
        file: Path | None,
        project: str,
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            file: the keys; None lets everybody in.
            replicas: how many share a key's rate.
        """
        self._file = file
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
                log.error("every request is refused: %s", error)
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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
