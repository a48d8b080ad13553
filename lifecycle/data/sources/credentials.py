"""Credentials: read from the environment, and kept out of everything that is said."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from lifecycle.errors import BackendError, LifecycleError, SourceError
from lifecycle.project import SourceSpec

SHORT = 3
"""A secret this short cannot be told from the words around it."""
LONGEST = 400
UNREACHABLE = (
    "refused",
    "timed out",
    "timeout",
    "unreachable",
    "connect call failed",
    "cannot connect",
    "could not connect",
    "name resolution",
    "no such host",
    "reset by peer",
)
"""Words of every driver for a server that may be back in a minute."""
EXTRAS = {
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "postgresql": "postgresql",
    "snowflake": "snowflake",
    "bigquery": "bigquery",
}
"""Scheme of a URL → what of `lifecycle-flows[…]` reads it."""


class Credentials:
    """Credentials of one source, from the environment variable that `source.credentials` names."""

    def __init__(self, spec: SourceSpec) -> None:
        """Look the variable up.

        Raises:
            SourceError: it is not set.
        """
        self.name = spec.credentials
        self.value = os.environ.get(spec.credentials, "") if spec.credentials else ""
        if spec.credentials and not self.value:
            block = spec.credentials.lower().replace("_", "-")
            raise SourceError(
                f"source.credentials: the environment variable {spec.credentials} is not set; set "
                f"it, or for flows store a Prefect Secret block named {block!r}"
            )
        self._secrets = sorted(set(_secrets(self.value, spec.path)), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Credentials({self.name})"

    def options(self) -> dict[str, Any]:
        """The JSON object they hold.

        Raises:
            SourceError: they are something else.
        """
        if not self.value:
            return {}
        try:
            options = json.loads(self.value)
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise SourceError(f"source.credentials: {self.name} must hold a JSON object of options")
        return options

    def scrub(self, text: str) -> str:
        """A text from outside, such as a driver's message, without its secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def guard(self, place: str, hint: str = "") -> Iterator[None]:
        """Turn any exception in the block into one clear message without credentials.

        Args:
            hint: advice for the user.

        Raises:
            SourceError: the source cannot be read.
            BackendError: the server does not answer.
        """
        try:
            yield
        except LifecycleError:
            raise
        except Exception as error:
            raise self._error(_cause(error), place, hint) from None

    def _error(self, error: BaseException, place: str, hint: str) -> LifecycleError:
        reason = self.scrub(_first(error)).rstrip(".")
        status = getattr(error, "status", 0)  # of an HTTP answer
        if isinstance(error, FileNotFoundError) or status in (404, 410):
            return SourceError(
                f"{place}: there is no such file or table ({reason}); correct source.path"
            )
        if status in (401, 403):
            todo = (
                f"see that {self.name}, which source.credentials names, holds what opens it"
                if self.name
                else "name the variable that holds what opens it under source.credentials"
            )
            return SourceError(f"{place}: access is refused ({reason}); {todo}")
        if isinstance(error, ImportError):
            return SourceError(_driver(place, reason))
        down = isinstance(error, ConnectionError | TimeoutError)
        down = down or any(word in reason.lower() for word in UNREACHABLE)
        if down or status >= 500:
            return BackendError(f"{place}: no answer: {reason}; run again when it is up")
        return SourceError(f"{place}: cannot read it: {reason}{hint}")


def _secrets(value: str, path: str) -> Iterator[str]:
    """Everything in the credentials, and in a URL's query, that no message may hold."""
    words = [value, *value.split()] if value else []
    with suppress(ValueError):  # no JSON
        words += list(_leaves(json.loads(value)))
    for url in (value, path):
        if "://" in url:
            parts = urlsplit(url)
            words += [parts.query, _password(parts.netloc)]
            values = [pair.partition("=")[2] for pair in parts.query.split("&")]
            words += values
            for encoded in values:  # BigQuery takes a JSON object in Base64
                with suppress(ValueError):
                    words += _leaves(json.loads(base64.b64decode(unquote(encoded), validate=True)))
    for secret in words:
        for form in (secret, unquote(secret), quote(secret), quote(secret, safe="")):
            if len(form) > SHORT:
                yield form


def _password(netloc: str) -> str:
    return netloc.rpartition("@")[0].partition(":")[2]


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value


def _cause(error: Exception) -> BaseException:
    """Return the error behind one in which a library has wrapped it."""
    if isinstance(error, FileNotFoundError) and error.__cause__:
        return error.__cause__  # fsspec calls whatever a web server does a missing file
    return getattr(error, "orig", None) or error  # SQLAlchemy


def _first(error: BaseException) -> str:
    """Return an error's message on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = " ".join(str(error).split()) or type(error).__name__
    return message[:LONGEST]


def _driver(place: str, reason: str) -> str:
    scheme = place.partition("://")[0].partition("+")[0]
    if scheme in EXTRAS:
        return (
            f"{place}: the package that reads {scheme}:// is not installed; run: "
            f"pip install 'lifecycle-flows[{EXTRAS[scheme]}]'"
        )
    return f"{place}: its driver is not installed: {reason}; install it or correct the URL"
