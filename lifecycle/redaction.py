"""Secrets this process knows of, kept out of everything it says: messages, logs, tracebacks.

A secret is the value of an environment variable whose name says so (`…_KEY`, `…_TOKEN`,
`…_PASSWORD`, `…_SECRET`, an auth string), the password in any variable that holds a URL, and what
`remember` was told. It imports little: a front and a replica need it, too.
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
SHORTEST = 4
"""Characters from which a secret can be told from the words around it."""
WORD = 8
"""A secret of fewer characters is weak: it is hidden where it stands alone, not inside a word."""
LONGEST_WORD = 20
"""So is one of letters alone, up to this length: it may be an ordinary word."""
IDENTIFIER = re.compile(r"_ID$", re.IGNORECASE)
"""Ends the name of a variable that holds a name, such as that of an access key: hidden as other
secrets are, but for an ordinary word, which would be missing wherever else it is said."""
PREFIXES = ("LIFECYCLE_", "PREFECT_", "MLFLOW_", "RAY_", "AWS_", "PG")
"""Begin the variables of an environment; others are no concern of it."""
SECRET_NAME = re.compile(
    r"(?:^|_)(?:KEYS?|TOKENS?|PASS|PASSWD|PASSPHRASE|PWD|CREDENTIALS?|SAS|HEADERS)(?:_|$)"
    r"|SECRET|PASSWORD|APIKEY|AUTH_STRING|CONNECTION_STRING|^LIFECYCLE_(\w+__)?DATABASES$",
    re.IGNORECASE,
)
PLAIN = frozenset(
    {
        "PWD",
        "OLDPWD",
        "LIFECYCLE_SERVE_KEYS",
        "LIFECYCLE_SERVE_TLS_KEY",
        "LIFECYCLE_FRONT_TLS_KEY",
    }
)
"""Variables with a secret's name that hold a path."""
SWITCHES = frozenset({"true", "false", "none", "null", "auto", "open", "keys", "token"})
"""Values that are no secret, whatever the variable is called."""
PASSWORD = re.compile(r"(://[^\s:/@'\"]*:)([^\s/'\"]+)(?=@)")
TOKEN = re.compile(r"(https?://)([^\s:/@'\"]+)(?=@)")
"""A web address whose user part is a token alone."""
QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:password|passwd|secret|token|signature|api_?key|credential)|sig|pwd)=)"
    r"[^&\s'\"]+",
    re.IGNORECASE,
)
IN_VARIABLE = re.compile(r"://[^\s:/@]*:(\S+)@")
"""A password as people write it: with a slash or an @ in it that should be quoted."""

_remembered: set[str] = set()


def remember(*secrets: str) -> None:
    """Hide these from now on: secrets that no environment variable holds."""
    for secret in secrets:
        _remembered.update(_forms(secret))
        remember_url(secret)


def remember_url(url: str) -> None:
    """Hide the password of a URL from now on, if it has one."""
    _remembered.update(_in_urls(url))


def redact(text: str) -> str:
    """The text without secrets of this process, and without the password of any URL."""
    text = PASSWORD.sub(rf"\1{HIDDEN}", text)
    text = QUERY.sub(rf"\1{HIDDEN}", TOKEN.sub(rf"\1{HIDDEN}", text))
    secrets = _of(tuple(os.environ.items())) | _remembered
    for secret in sorted(secrets, key=len, reverse=True):
        if secret not in text:
            continue
        if is_weak(secret):
            pattern = rf"(?<![\w./-]){re.escape(secret)}(?![\w/-]|\.\w)"
            text = re.sub(pattern, HIDDEN, text)
        else:
            text = text.replace(secret, HIDDEN)
    return text


def is_weak(secret: str) -> bool:
    """Return whether a secret can be guessed, and hidden only where it stands alone."""
    return len(secret) < WORD or (secret.isalpha() and len(secret) <= LONGEST_WORD)


def weak_secrets() -> list[str]:
    """Names of this environment's variables whose secret is weak."""
    return sorted(
        name
        for name, value in os.environ.items()
        if name.startswith(PREFIXES)
        and _is_secret(name, value)
        and not IDENTIFIER.search(name)
        and value.lower() not in SWITCHES
        and is_weak(value.partition(":")[2] if "AUTH_STRING" in name else value)
    )


@contextmanager
def errors_redacted() -> Iterator[None]:
    """Let no error out that quotes a secret: Prefect keeps messages in its database.

    One that carries a message alone loses the secret.

    Raises:
        RuntimeError: in the place of any other one, with its name and its message.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        safe_text = redact(text)
        if safe_text != text and error.args != (text,):
            plain = RuntimeError(f"{type(error).__name__}: {safe_text}")
            raise plain.with_traceback(error.__traceback__) from None
        if safe_text != text:
            error.args = (safe_text,)
        raise


@lru_cache(maxsize=4)
def _of(variables: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """Every form of every secret in environment variables."""
    secrets: set[str] = set()
    for name, value in variables:
        if "://" in value:
            secrets.update(_in_urls(value))
        if not _is_secret(name, value) or (IDENTIFIER.search(name) and value.isalpha()):
            continue
        secrets.update(_forms(value))
        if "AUTH_STRING" in name:
            secrets.update(_forms(value.partition(":")[2]))
            secrets.add(base64.b64encode(value.encode("utf-8", "surrogateescape")).decode())
        for part in (*value.split(), *_leaves(value)):
            secrets.update(_forms(part))
    return frozenset(secrets)


def _is_secret(name: str, value: str) -> bool:
    """Return whether a variable holds a secret, and not the path of a file with one."""
    is_named = name not in PLAIN and SECRET_NAME.search(name)
    return bool(value and is_named) and not os.path.isfile(value)


def _in_urls(value: str) -> Iterator[str]:
    """Passwords of the URLs in a value."""
    for url in value.split():
        for pattern in (PASSWORD, TOKEN):
            for match in pattern.finditer(url):
                yield from _forms(match[2])
        for match in IN_VARIABLE.finditer(url):
            yield from _forms(match[1])
        for match in QUERY.finditer(url):
            yield from _forms(match[0].partition("=")[2])


def _leaves(value: str) -> Iterable[str]:
    """Texts of a JSON object, as some variables hold one."""
    if not value.startswith(("{", "[")):
        return
    try:
        todo = [json.loads(value)]
    except ValueError:
        return
    while todo:
        leaf = todo.pop()
        if isinstance(leaf, dict | list):
            todo += leaf.values() if isinstance(leaf, dict) else leaf
        elif isinstance(leaf, str):
            yield leaf


def _forms(secret: str) -> Iterator[str]:
    """A secret as it may be written."""
    if secret.lower() in SWITCHES:
        return
    for form in (
        secret,
        unquote(secret),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    ):
        if len(form) >= SHORTEST:
            yield form
