"""`serving.allowed_origins`: pages of other sites, let in by name; off unless declared."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from lifecycle.project import Project, ServingSpec
from lifecycle.serving.endpoint import EndpointApp
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.replica import endpoint_of

Make = Callable[..., Project]
SHOP, EVIL = "https://shop.example", "https://evil.example"
ALLOW = "access-control-allow-origin"


def send(app: EndpointApp, method: str, path: str, **options: Any) -> httpx.Response:
    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.request(method, path, **options)

    return asyncio.run(sent())


def preflight(app: EndpointApp, origin: str) -> httpx.Response:
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return send(app, "OPTIONS", "/predict", headers=asks)


@pytest.mark.parametrize("keys", [False, True])
def test_a_declared_origin_may_ask_and_read_answers_and_errors(
    make_project: Make, train: Callable[..., Any], settings: Settings, keys: bool
) -> None:
    made = train(
        make_project(serving={"allowed_origins": [SHOP, "http://localhost:3000"]}), settings
    )
    rows = made.holdout()[["age", "visits", "city"]].head(1)
    body = {"records": to_records(rows)}
    with endpoint_of(made, keys=keys) as app:
        asked = preflight(app, SHOP)  # a browser sends no key with it
        assert (asked.status_code, asked.headers[ALLOW], asked.content) == (200, SHOP, b"")
        assert "POST" in asked.headers["access-control-allow-methods"]
        headers = asked.headers["access-control-allow-headers"]
        assert {"content-type", "authorization", "x-api-key"} <= set(headers.split(", "))
        status = 401 if keys else 200
        for path, content, code in (
            ("/predict", body, status),
            ("/predict", {"records": [{}]}, 401 if keys else 422),
            ("/nowhere", body, 401 if keys else 404),
        ):
            answer = send(app, "POST", path, json=content, headers={"Origin": SHOP})
            assert (answer.status_code, answer.headers[ALLOW]) == (code, SHOP)
            assert answer.headers["vary"] == "origin"
        for origin in (EVIL, "null", SHOP.upper(), f"{SHOP}.evil.example"):
            assert ALLOW not in preflight(app, origin).headers
            answer = send(app, "POST", "/predict", json=body, headers={"Origin": origin})
            assert answer.status_code == status
            assert ALLOW not in answer.headers
        assert send(app, "OPTIONS", "/predict").status_code == (401 if keys else 405)


def test_without_any_nothing_is_said_and_a_star_lets_all_in(
    make_project: Make, train: Callable[..., Any], settings: Settings
) -> None:
    with endpoint_of(train(make_project(), settings)) as app:
        assert preflight(app, SHOP).status_code == 405
        answer = send(app, "GET", "/health", headers={"Origin": SHOP})
        assert not [name for name in answer.headers if name.startswith("access-control")]
    made = train(make_project(serving={"allowed_origins": ["*"]}), settings)
    with endpoint_of(made) as app:
        assert preflight(app, EVIL).headers[ALLOW] == "*"
        assert send(app, "GET", "/health", headers={"Origin": EVIL}).headers[ALLOW] == "*"


@pytest.mark.parametrize(
    "origin",
    ["shop.example", "https://shop.example/", "https://Shop.example", "null", "https://*.x", ""],
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin: write scheme, host and port"):
        ServingSpec(allowed_origins=(origin,))
