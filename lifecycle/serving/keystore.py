"""API keys, kept as hashes in one file.

A key is 32 random bytes, so plain SHA-256 is enough at rest: there is nothing to guess that a slow
hash would make slower, and each request would pay for it.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, MutableSequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.errors import SettingsError

PREFIX = "lc_"
"""So that scanners for leaked secrets can know our keys."""
INTERNAL = "internal."
"""Begins the names of keys that a process makes for itself."""
INTERNAL_MINUTES = 15
"""After this long an internal key is left over from a process that was killed."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


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
    checksum: str = ""
    """SHA-256 of the keys as JSON; empty in a file that was written before there was one."""

    def sum(self) -> str:
        """What `checksum` must be."""
        kept = [key.model_dump(mode="json") for key in self.keys]
        return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


class KeyStore:
    """The file of the keys; several processes may change it at the same time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, name: str, rate: float | None = None, projects: Iterable[str] = ()) -> str:
        """Make a key for somebody.

        Args:
            rate: requests a second.
            projects: names of the projects it opens; without any, all.

        Returns:
            The key itself, which is kept nowhere.

        Raises:
            SettingsError: the name is in use or unfit, the rate is, or the file cannot be written.
        """
        if name.startswith(INTERNAL):
            raise SettingsError(
                f"key name {name!r}: names that begin with {INTERNAL} are kept back"
            )
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
                keys[:] = [one for one in keys if one.name != name]

    def _add(self, name: str, rate: float | None, projects: Iterable[str]) -> str:
        """Make a key of any name; see `add`."""
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
            kept = _Keys.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SettingsError(f"{self.file}: cannot read it ({error.strerror})") from None
        except ValidationError:
            raise SettingsError(
                f"{self.file}: this is no file of API keys; restore it, or name another one with "
                "LIFECYCLE_SERVE_KEYS"
            ) from None
        if kept.checksum and kept.checksum != kept.sum():
            raise SettingsError(
                f"{self.file}: the keys do not match their checksum: the file was damaged, or "
                "edited by hand; restore it from a backup, or, if the edit was meant, set its "
                '"checksum" to ""'
            )
        return kept.keys

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
                made = _Keys(keys=tuple(keys))
                made = made.model_copy(update={"checksum": made.sum()})
                text = json.dumps(made.model_dump(mode="json"), indent=1)
                with open(aside, "w", opener=_private) as out:
                    out.write(text + "\n")
                aside.replace(self.file)
        except OSError as error:
            raise SettingsError(
                f"{self.file}: cannot write it ({error.strerror}); name another file with "
                "LIFECYCLE_SERVE_KEYS"
            ) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
