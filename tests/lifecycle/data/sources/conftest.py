"""The servers, and a project on a place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle.data.sources import open_source, spread
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.makers import ON_RAY, PLACES, SLOW, Opener, project_of
from tests.support.places import (
    Place,
    SqlPlace,
)
from tests.support.postgres import Postgres
from tests.support.servers import Web, running_s3, running_web


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with running_s3() as url:
        yield url


@pytest.fixture(scope="session")
def web_server() -> Iterator[Web]:
    with running_web() as web:
        yield web


@pytest.fixture
def web(web_server: Web) -> Web:
    web_server.files.clear()
    web_server.got.clear()
    web_server.says_versions = True
    return web_server


@pytest.fixture(scope="session")
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database("sources") as url:
        yield url


@pytest.fixture(
    params=[
        *(name for name in PLACES if name not in SLOW),
        *(pytest.param(name, marks=pytest.mark.system) for name in SLOW),
        *(
            pytest.param((name,), id=f"{name}, on Ray", marks=getattr(pytest.mark, tier))
            for name, tier in ON_RAY.items()
        ),
    ],
    ids=str,
)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    name = request.param if isinstance(request.param, str) else request.param[0]
    made = PLACES[name](request, tmp_path, monkeypatch)
    yield made
    if isinstance(made, SqlPlace):
        made.clear()


@pytest.fixture
def opened(request: pytest.FixtureRequest, place: Place) -> Opener:
    """How the project's source is opened: as ever, or to be read by the session's Ray."""
    if isinstance(request.node.callspec.params["place"], str):
        return open_source
    request.getfixturevalue("ray_cluster")
    joined = Settings(ray_address="127.0.0.1:6379")  # it is connected, so nobody goes there
    return lambda project: spread(open_source(project), joined)


@pytest.fixture
def project(place: Place, tmp_path: Path) -> Project:
    return project_of(tmp_path, place.spec)
