"""Authentication and rate limits: checks every request against the stored API keys."""

import asyncio
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
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.errors import AccessError, RateLimitError, SettingsError
from lifecycle.runtime.files import write_atomic

if TYPE_CHECKING:
    from lifecycle.serving.tokens import TokenVerifier

logger = logging.getLogger(__name__)

# API keys, stored as hashes in one file.
#
# A key is 32 random bytes, so plain SHA-256 is enough at rest: there is nothing to guess that a
# slow hash would make slower, and each request would pay for it.

PREFIX = "lc_"
"""Prefix by which scanners for leaked secrets recognise the keys."""
INTERNAL = "internal."
"""Begins the names of keys that a process makes for itself."""
INTERNAL_MINUTES = 15
"""After this long an internal key is left over from a process that was killed."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Key(BaseModel):
    """Stored record of an API key."""

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
    checksum: str = ""
    """SHA-256 of the keys as JSON; empty in a file that was written before there was one."""

    def sum(self) -> str:
        """Return the SHA-256 of the keys, which `checksum` must equal."""
        keys = [key.model_dump(mode="json") for key in self.keys]
        return sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()


class KeyStore:
    """The file of the keys; several processes may change it at the same time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, name: str, rate: float | None = None, projects: Iterable[str] = ()) -> str:
        """Create a key.

        Args:
            rate: requests a second.
            projects: names of the projects it opens; without any, all.

        Returns:
            The key itself, which is kept nowhere.

        Raises:
            SettingsError: the name is in use or unfit, the rate is, or the file cannot be written.
        """
        if name.startswith(INTERNAL):
            raise SettingsError(f"key name {name!r}: names that begin with {INTERNAL} are reserved")
        return self._add(name, rate, projects)

    @contextmanager
    def internal(self, purpose: str, project: str) -> Iterator[str]:
        """A key of this process for one project, for the block only; replicas know within 2 s.

        It is in memory alone. Nothing of it is kept, other than of a key that is revoked, so that
        the file does not grow; what a killed process left behind goes with the next one.

        Raises:
            SettingsError: the file cannot be written.
        """
        name = f"{INTERNAL}{purpose}.{secrets.token_hex(4)}"
        limit = datetime.now(UTC) - timedelta(minutes=INTERNAL_MINUTES)
        with self._change() as keys:
            keys[:] = [k for k in keys if not (k.name.startswith(INTERNAL) and k.created < limit)]
        key = self._add(name, None, (project,))
        try:
            yield key
        finally:
            with self._change() as keys:
                keys[:] = [key for key in keys if key.name != name]

    def _add(self, name: str, rate: float | None, projects: Iterable[str]) -> str:
        """Make a key of any name; see `add`."""
        if not NAME.fullmatch(name):
            raise SettingsError(
                f"key name {name!r}: use 1 to 64 letters, digits and any of . _ @ -, "
                "a letter or digit first"
            )
        key = PREFIX + secrets.token_urlsafe(32)
        try:
            new_key = Key(
                name=name,
                sha256=sha256(key.encode()).hexdigest(),
                created=datetime.now(UTC),
                rate=rate,
                projects=tuple(projects),
            )
        except ValidationError:
            raise SettingsError(
                f"key {name!r}: the rate must be above 0 requests per second (got {rate})"
            ) from None
        with self._change() as keys:
            namesake = next((k for k in keys if k.name == name), None)
            if namesake:
                state = "revoked, and names are not used twice" if namesake.revoked else "in use"
                raise SettingsError(f"key {name!r} of {self.file} is {state}; choose another name")
            keys.append(new_key)
        return key

    def revoke(self, name: str) -> None:
        """Revoke a key. Takes effect within 2 seconds; no redeploy is needed.

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
            stored_keys = _Keys.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SettingsError(f"{self.file}: cannot read it ({error.strerror})") from None
        except ValidationError:
            raise SettingsError(
                f"{self.file}: this is not a file of API keys; restore it, or name another one "
                "with LIFECYCLE_SERVE_KEYS"
            ) from None
        if stored_keys.checksum and stored_keys.checksum != stored_keys.sum():
            raise SettingsError(
                f"{self.file}: the keys do not match their checksum: the file was damaged, or "
                "edited by hand; restore it from a backup, or, if the edit was meant, set its "
                '"checksum" to ""'
            )
        return stored_keys.keys

    @contextmanager
    def _change(self) -> Iterator[MutableSequence[Key]]:
        """The keys, to be changed in place; written in one step, under a lock."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file.with_name(f"{self.file.name}.lock"), "w", opener=_private) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = [*self.list()]
                yield keys
                content = _Keys(keys=tuple(keys))
                content = content.model_copy(update={"checksum": content.sum()})
                text = json.dumps(content.model_dump(mode="json"), indent=1)
                write_atomic(self.file, text + "\n", 0o600)
        except OSError as error:
            raise SettingsError(
                f"{self.file}: cannot write it ({error.strerror}); name another file with "
                "LIFECYCLE_SERVE_KEYS"
            ) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


OPEN = frozenset({"/health", "/ping", "/v2/health/live", "/v2/health/ready", "/docs"})
"""Paths that load balancers ask, without a key; and the page that asks its reader for one."""
STATIC = "/docs/static/"
"""Begins the paths of that page's files, which are the same for every model."""
LOOK_SECONDS = 1.0
"""Seconds between two looks for changes of the file, at least."""


def is_open(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in OPEN or path.startswith(STATIC)


class Gatekeeper:
    """Decides whether a request is let in. One per replica; not safe for several threads."""

    def __init__(
        self,
        file: Path | None,
        project: str,
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
        required: bool = True,
        tokens: "TokenVerifier | None" = None,
    ) -> None:
        """Store the arguments; the key file is read when the first request comes.

        Args:
            file: the key file; None lets every client in.
            replicas: number of replicas that share the rate limit of a key.
            required: whether every request needs a key. If False, only the keys that a release
                makes for itself are looked at, to tell its requests from those of clients.
            tokens: judges tokens of an OpenID provider, which open as keys do; None takes none.
        """
        self._tokens = tokens
        self._file = file
        self._required = required
        self._project = project
        self._replicas = replicas
        self._clock = clock
        self._look_at = -math.inf
        self._last_state: object = ()
        self._guests: dict[bytes, _Guest] = {}
        self._problem = ""

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Check a request's key and return its name; empty if none is needed.

        Costs about 2 µs.

        Args:
            headers: as ASGI gives them, names in lower case.

        Raises:
            AccessError: there is no key, there are two, or the key is not valid here.
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
        credential = _credential(headers)
        if self._tokens is not None and self._tokens.is_token(credential):
            return self._tokens.check(credential)
        guest = self._guests.get(sha256(credential).digest())
        if guest is None:
            raise AccessError("this API key is not valid here")
        if guest.rate:
            guest.spend(now)
        return guest.name

    async def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Check a request as `check` does; wait for the keys of the tokens' issuer if need be.

        Raises:
            AccessError, RateLimitError: as `check`.
            ProviderDownError: the issuer does not give its keys, and none are known.
        """
        if self._tokens is None:
            return self.check(headers)
        from lifecycle.serving.tokens import KeysNeededError

        try:
            return self.check(headers)
        except KeysNeededError:
            await asyncio.to_thread(self._tokens.refresh)
            return self.check(headers)

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
            status = file.stat()
            state: object = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            state = error.strerror
        if state == self._last_state:
            return
        self._last_state = state
        former, self._guests = self._guests, {}
        try:
            if not isinstance(state, tuple):
                raise SettingsError(f"{file}: cannot read it ({state})")
            keys = KeyStore(file).list()
        except SettingsError as error:
            self._last_state = ()  # what cannot be read may be readable without having changed
            if str(error) != self._problem:
                self._problem = str(error)
                is_shut = self._required and self._tokens is None
                effect = "every request is refused" if is_shut else "no key counts"
                logger.error("%s: %s", effect, error)
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

    __slots__ = ("_at", "_capacity", "_tokens", "name", "rate")

    def __init__(self, name: str, rate: float) -> None:
        self.name = name
        self.rate = rate
        self._capacity = self._tokens = max(1.0, rate)
        self._at = -math.inf

    def spend(self, now: float) -> None:
        """Take a token of those that came since the last time.

        Raises:
            RateLimitError: there is none.
        """
        tokens = min(self._capacity, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if tokens < 1.0:
            self._tokens = tokens
            error = RateLimitError(f"the API key {self.name!r} sends too many requests per second")
            error.retry_after = math.ceil((1.0 - tokens) / self.rate)
            raise error
        self._tokens = tokens - 1.0


def _credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one key of a request.

    Raises:
        AccessError: there is none, or more than one.
    """
    token = None
    for name, value in headers:
        if name == b"authorization" or name == b"x-api-key":
            if token is not None:
                raise AccessError("this request has two API keys; send one")
            if name == b"authorization":
                if value[:7].lower() != b"bearer ":
                    raise AccessError("the Authorization header must be: Bearer <API key>")
                value = value[7:]
            token = value.strip()
    if not token:
        raise AccessError(
            "this endpoint needs an API key, as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'"
        )
    return token
