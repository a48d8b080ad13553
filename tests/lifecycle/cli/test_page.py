"""The page in a browser of this machine: served on loopback, to nobody else's names."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from lifecycle.cli import page
from lifecycle.errors import BackendError
from lifecycle.project import Project
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings

SERVERS = ("http://127.0.0.1:5000", "http://127.0.0.1:4200")


def test_only_names_of_this_machine_are_answered(
    make_project: Callable[..., Project],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "index.html").write_text("<p>page</p>")
    monkeypatch.setattr(page, "build", lambda *_, **__: tmp_path / "index.html")
    port = free_port(8010)
    with page.serving_page(make_project(), settings, port, SERVERS) as is_served:
        assert is_served
        url = f"http://127.0.0.1:{port}/"
        assert httpx.get(url).text == "<p>page</p>"
        assert httpx.get(url, headers={"Host": "elsewhere.example"}).status_code == 403
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_page_that_cannot_be_built_leaves_the_other_pages(
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise BackendError("MLflow does not answer")

    monkeypatch.setattr(page, "build", fail)
    with page.serving_page(make_project(), settings, free_port(8010), SERVERS) as is_served:
        assert not is_served
    assert "no page of small: MLflow does not answer" in capsys.readouterr().err
