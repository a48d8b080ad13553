"""Tokens of an OpenID provider: who gets in, what happens while keys change or it is down."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lifecycle.errors import AccessError, SettingsError
from lifecycle.serving import tokens
from lifecycle.serving.auth import Gatekeeper, KeyStore
from lifecycle.serving.tokens import ProviderDownError, TokenVerifier
from lifecycle.settings import Settings
from tests.support.servers import Web, running_web

AUDIENCE = "models"
KEYS = "/jwks.json"
DISCOVERY = "/realm/.well-known/openid-configuration"


class Issuer:
    """An OpenID provider on loopback, with a key that may change."""

    def __init__(self, web: Web) -> None:
        self.web, self.url = web, f"http://127.0.0.1:{web.port}/realm"
        place = f"http://127.0.0.1:{web.port}{KEYS}"
        self._say(DISCOVERY, {"issuer": self.url, "jwks_uri": place})
        self._published: list[dict[str, Any]] = []
        self.rotate("first")

    def _say(self, path: str, content: object) -> None:
        self.web.files[path] = json.dumps(content).encode()

    def rotate(self, name: str, keep: bool = False) -> None:
        """Sign with another key from now on."""
        self.name, self.key = name, ec.generate_private_key(ec.SECP256R1())
        own = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        former = self._published if keep else []
        self._published = [*former, own | {"kid": name, "use": "sig", "alg": "ES256"}]
        self._say(KEYS, {"keys": self._published})

    def sign(self, key: Any = None, algorithm: str = "ES256", **changes: Any) -> str:
        """A token; a change of None leaves its claim out."""
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada@example.org",
            "exp": time.time() + 300,
            "scope": "openid predict",
        } | changes
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(said, key or self.key, algorithm, headers={"kid": self.name})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_web() as web:
        yield Issuer(web)


@pytest.fixture
def protected(settings: Settings, issuer: Issuer) -> Settings:
    return settings.model_copy(
        update={"serve_oidc_issuer": issuer.url, "serve_oidc_audience": AUDIENCE}
    )


@pytest.fixture
def gate(protected: Settings) -> Gatekeeper:
    verifier = TokenVerifier(protected, "small")
    return Gatekeeper(protected.keys_file, "small", tokens=verifier)


def admit(gate: Gatekeeper, token: str, header: bytes = b"authorization") -> str:
    value = f"Bearer {token}" if header == b"authorization" else token
    return asyncio.run(gate.admit([(header, value.encode())]))


def hurry(gate: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fetches follow at once."""
    monkeypatch.setattr(tokens, "REPEAT_S", -1.0)


def test_a_token_opens_as_a_key_does(gate: Gatekeeper, issuer: Issuer, protected: Settings) -> None:
    key = KeyStore(protected.keys_file).add("shop")
    token = issuer.sign()
    assert admit(gate, token) == admit(gate, token, b"x-api-key") == "oidc:ada@example.org"
    assert issuer.web.got[KEYS] == 1, "keys are fetched once"
    assert admit(gate, key) == "shop", "keys go on"
    assert admit(gate, issuer.sign(sub="x y\n")).startswith("oidc:")
    assert "\n" not in admit(gate, issuer.sign(sub="x y\n"))


def test_scopes_are_projects(gate: Gatekeeper, issuer: Issuer) -> None:
    assert admit(gate, issuer.sign(scope="predict:small"))
    assert admit(gate, issuer.sign(scope=None, scp=["predict"]))
    for changes in ({"scope": "predict:other openid"}, {"scope": None}, {"scope": "predicted"}):
        with pytest.raises(AccessError, match="lacks the scope predict or predict:small"):
            admit(gate, issuer.sign(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": time.time() - 60}, "has expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"aud": "others"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://elsewhere.example"}, "[Ii]ssuer"),
        ({"nbf": time.time() + 86_400}, "not yet valid"),
    ],
)
def test_claims_that_are_wrong(
    gate: Gatekeeper, issuer: Issuer, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(AccessError, match=message):
        admit(gate, issuer.sign(**changes))


def test_signatures_that_are_wrong(gate: Gatekeeper, issuer: Issuer) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(AccessError, match="not valid here"):
        admit(gate, issuer.sign(key=stranger))
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(AccessError, match="not valid here"):
        admit(gate, issuer.sign(key=other, algorithm="RS256"))
    with pytest.raises(AccessError, match="not signed by one of RS256, ES256"):
        admit(gate, issuer.sign(key="secret" * 8, algorithm="HS256"))
    unsigned = jwt.encode({"sub": "x"}, None, "none", headers={"kid": "first"})
    with pytest.raises(AccessError, match="not signed by one of"):
        admit(gate, unsigned)
    for odd in ("a.b.c", "..", issuer.sign()[:-4] + "AAAA", "x" * 9000 + ".."):
        with pytest.raises(AccessError):
            admit(gate, odd)


def test_a_new_key_is_fetched_and_one_that_is_gone_opens_nothing(
    gate: Gatekeeper, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = issuer.sign()
    admit(gate, old)
    issuer.rotate("second", keep=True)
    with pytest.raises(AccessError, match="a key that its issuer does not have"):
        admit(gate, issuer.sign())
    assert issuer.web.got[KEYS] == 1, "nobody makes us fetch at every request"
    hurry(gate, monkeypatch)
    assert admit(gate, issuer.sign())
    assert admit(gate, old), "both are published for a while"
    issuer.rotate("third")
    assert admit(gate, issuer.sign())
    monkeypatch.setattr(tokens, "REPEAT_S", 100.0)
    with pytest.raises(AccessError, match="a key that its issuer does not have"):
        admit(gate, old)


def test_an_issuer_that_is_down(
    gate: Gatekeeper, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, files = issuer.sign(), dict(issuer.web.files)
    issuer.web.files.clear()
    with pytest.raises(ProviderDownError, match="cannot be fetched") as down:
        admit(gate, token)
    assert down.value.status == 503
    issuer.web.files |= files
    with monkeypatch.context() as patch:
        hurry(gate, patch)
        assert admit(gate, token)
    issuer.web.files.clear()
    monkeypatch.setattr(tokens, "KEEP_S", -1.0)
    assert admit(gate, issuer.sign(sub="new")), "keys that are known go on"
    with pytest.raises(AccessError):
        admit(gate, issuer.sign(sub="new", aud="others"))


def test_keys_are_fetched_from_a_safe_place_alone(
    protected: Settings, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    place = {"issuer": issuer.url, "jwks_uri": "http://keys.example/jwks"}
    issuer.web.files[DISCOVERY] = json.dumps(place).encode()
    verifier = TokenVerifier(protected, "small")
    verifier.refresh()
    assert "keys.example is not asked by https" in caplog.text
    issuer.web.files[DISCOVERY] = json.dumps(place | {"issuer": "https://other"}).encode()
    verifier = TokenVerifier(protected, "small")
    verifier.refresh()
    assert "of 'https://other'" in caplog.text


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ISSUER": "https://id.example"}, "SERVE_OIDC_AUDIENCE belong together"),
        ({"ISSUER": "http://id.example", "AUDIENCE": "a"}, "must be an https:// URL"),
        ({"ALGORITHMS": "RS256 HS256"}, "has HS256; choose of"),
        ({"ALGORITHMS": "none"}, "has none; choose of"),
        ({"SCOPE": "two words"}, "SERVE_OIDC_SCOPE"),
    ],
)
def test_settings_that_let_strangers_in_are_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"LIFECYCLE_SERVE_OIDC_{name}", value)
    with pytest.raises(SettingsError, match=message):
        Settings.load()


def test_with_an_issuer_dev_asks_too() -> None:
    known = {"serve_oidc_issuer": "https://id.example", "serve_oidc_audience": "a"}
    assert Settings(**known).needs_keys  # type: ignore[arg-type]
    assert not Settings(serve_access="open", **known).needs_keys  # type: ignore[arg-type]
