"""The endpoint of a replica, without Ray."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from lifecycle.serving.access import RequestReports
from lifecycle.serving.auth import Gatekeeper
from lifecycle.serving.endpoint import EndpointApp
from lifecycle.serving.labels import LabelInbox
from lifecycle.serving.pages import Pages
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.traffic import Lanes
from tests.support.log_writer import open_log

Post = Callable[..., httpx.Response]


@contextmanager
def endpoint_of(
    made: Any, keys: bool = False, reports: RequestReports | None = None
) -> Iterator[EndpointApp]:
    """The endpoint with its log, as `ModelServer` builds it.

    Args:
        keys: whether it asks for an API key.
        reports: of requests.
    """
    served = ServedModel.open(made.bundle.path, made.model, made.project, settings=made.settings)
    meters, log = open_log(made.settings, made.project)
    lanes = Lanes(served)
    gate = Gatekeeper(made.settings.keys_file, made.project.name, required=keys)
    try:
        pages = Pages(served, lanes, meters, secured=keys)
        inbox = LabelInbox(made.project, made.settings)
        app = EndpointApp(served, lanes, gate, log, meters, pages, inbox)
        app.reports = reports
        yield app
    finally:
        log.close()
        meters.close()


@contextmanager
def serving(made: Any) -> Iterator[tuple[ServedModel, Post]]:
    """The model, and how to ask it: a path, then JSON or bytes to post, then headers."""

    def ask(path: str, content: Any = None, **headers: str) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app),  # type: ignore[arg-type]
                base_url="http://replica",
            ) as client:
                if content is None:
                    return await client.get(path)
                if isinstance(content, bytes):
                    return await client.post(path, content=content, headers=headers)
                return await client.post(path, json=content)

        return asyncio.run(send())

    with endpoint_of(made) as app:
        yield app._model, ask
