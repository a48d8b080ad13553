"""Tokens of an OpenID provider (JWT, RFC 7519) as keys of the endpoint.

A token is let in if the provider signed it for this endpoint, it has not expired, and its scopes
name the project. The provider's public keys are fetched beside the event loop and kept: while it is
down, tokens signed by a key that is known go on.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from hashlib import sha256
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import jwt

from lifecycle.errors import AccessError, RequestError
from lifecycle.settings import Settings, is_private_place

logger = logging.getLogger(__name__)

FETCH_S = 5.0
"""Seconds that the provider may take to answer."""
FETCH_BYTES = 1 << 20
KEEP_S = 300.0
"""Age from which the provider's keys are fetched again, beside the requests."""
REPEAT_S = 10.0
"""Seconds between two fetches for the sake of keys that nobody knows."""
LEEWAY_S = 30.0
"""By how much clocks may differ."""
MAX_TOKEN = 8192
MAX_CACHED = 4096
"""Tokens whose signature need not be verified again."""
PREFIX = "oidc:"
"""Begins the name of who has a token, in logs."""
SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|:/+-]{0,99}")
DISCOVERY = "/.well-known/openid-configuration"


class KeysNeededError(RequestError):
    """The provider's keys have to be fetched before this token can be judged; then ask again."""

    status = 503


class ProviderDownError(RequestError):
    """The provider does not give its keys, and none are known."""

    status = 503


class TokenVerifier:
    """Judges tokens for one project. One per replica; `check` is for the event loop alone."""

    def __init__(self, settings: Settings, project: str) -> None:
        self._issuer, self._audience = settings.serve_oidc_issuer, settings.serve_oidc_audience
        self._jwks = settings.serve_oidc_jwks
        self._algorithms = settings.serve_oidc_algorithms.split()
        scope = settings.serve_oidc_scope
        self._scopes = {scope, f"{scope}:{project}"}
        self._project, self._scope = project, scope
        self._keys: dict[str, jwt.PyJWK] = {}
        self._problem = "they were never fetched"
        self._fetched = self._tried = float("-inf")
        self._lock = Lock()
        self._judged: dict[bytes, tuple[str, float]] = {}

    @staticmethod
    def is_token(credential: bytes) -> bool:
        """Return whether a credential has the shape of a token: three parts with dots between."""
        return credential.count(b".") == 2

    def check(self, token: bytes) -> str:
        """The name of who has this token.

        Raises:
            AccessError: the token is not valid here.
            KeysNeededError: call `refresh`, then this again.
            ProviderDownError: no key of the provider is known.
        """
        if time.monotonic() - self._fetched > KEEP_S and not self._lock.locked():
            if not self._keys:
                self._need_keys()
            elif time.monotonic() - self._tried > REPEAT_S:
                Thread(target=self.refresh, name="oidc", daemon=True).start()
        digest = sha256(token).digest()
        name, expires = self._judged.get(digest, ("", 0.0))
        if name and time.time() < expires:
            return name
        claims = self._claims(token)
        name = _name(claims["sub"])
        if len(self._judged) >= MAX_CACHED:
            self._judged.clear()
        self._judged[digest] = name, float(claims["exp"])
        return name

    def _claims(self, token: bytes) -> dict[str, Any]:
        if len(token) > MAX_TOKEN:
            raise AccessError(f"this token has more than {MAX_TOKEN} bytes")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise AccessError("this token is not a JSON Web Token") from None
        if header.get("alg") not in self._algorithms:
            raise AccessError(f"this token is not signed by one of {', '.join(self._algorithms)}")
        key = self._key(header.get("kid"))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise AccessError("this token has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise AccessError(f"this token is not valid here: {error}") from None
        if not _scopes(claims) & self._scopes:
            scopes = f"{self._scope} or {self._scope}:{self._project}"
            raise AccessError(f"this token lacks the scope {scopes}")
        return claims

    def _key(self, name: object) -> jwt.PyJWK:
        """The provider's key of this name; without a name, its only one."""
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = self._keys.get(str(name))
        if key is None:
            self._need_keys()
            raise AccessError("this token is signed with a key that its issuer does not have")
        return key

    def _need_keys(self) -> None:
        """Ask for a fetch, unless there has just been one.

        Raises:
            KeysNeededError: there was none for a while.
            ProviderDownError: there was, and it failed.
        """
        if time.monotonic() - self._tried > REPEAT_S:
            raise KeysNeededError("the keys of the tokens' issuer are being fetched; ask again")
        if self._problem:
            raise ProviderDownError("the keys of the tokens' issuer cannot be fetched; ask later")

    def refresh(self) -> None:
        """Fetch the provider's keys; may be called on any thread, and never raises."""
        with self._lock:
            if time.monotonic() - self._tried < REPEAT_S:
                return  # whoever had the lock has fetched them
            try:
                keys = self._fetch()
            except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                if not self._problem or not self._keys:
                    logger.error("%s: its keys cannot be fetched: %s", self._issuer, error)
                self._problem = str(error) or type(error).__name__
            else:
                if set(keys) != set(self._keys):
                    self._judged = {}  # a key that is gone opens nothing any more
                self._keys, self._problem, self._fetched = keys, "", time.monotonic()
            self._tried = time.monotonic()

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        place = self._jwks
        if not place:
            discovery = _json(self._issuer.rstrip("/") + DISCOVERY)
            if discovery.get("issuer") != self._issuer:
                raise ValueError(f"its discovery document is of {discovery.get('issuer')!r}")
            place = str(discovery["jwks_uri"])
        keys = {}
        for entry in _json(place)["keys"]:
            if entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
                continue
            try:
                keys[str(entry.get("kid"))] = jwt.PyJWK(entry)
            except jwt.PyJWTError:  # of a kind that this library does not know
                continue
        if not keys:
            raise ValueError(f"{place} has no key that signs")
        return keys


def _json(url: str) -> dict[str, Any]:
    """A JSON object of the provider's.

    Raises:
        ValueError: the URL is not safe, or what is there is no JSON object.
        OSError: it does not answer.
    """
    if not is_private_place(url):
        raise ValueError(f"{urlsplit(url).netloc} is not asked by https")
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked above
    with urlopen(request, timeout=FETCH_S) as answer:  # noqa: S310 - the same
        content = json.loads(answer.read(FETCH_BYTES))
    if not isinstance(content, dict):
        raise ValueError(f"{url} is no JSON object")
    return content


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """Scopes as RFC 8693 has them (`scope`), and as others do (`scp`)."""
    scopes: set[str] = set()
    for claim in ("scope", "scp"):
        value = claims.get(claim, "")
        scopes.update(value.split() if isinstance(value, str) else map(str, value or ()))
    return scopes


def _name(subject: object) -> str:
    """Who has a token, as logs name it: its subject, or the digest of an odd one."""
    text = str(subject)
    if not SUBJECT.fullmatch(text):
        text = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return PREFIX + text
