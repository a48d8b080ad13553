"""The examples in docstrings run as they are written."""

import doctest
import threading
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.client_server import Server

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "lifecycle").rglob("*.py")
    if ">>> " in file.read_text()
)


def test_there_are_examples() -> None:
    assert {"lifecycle.client", "lifecycle.profiling", "lifecycle.project.loader"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the root of the project; `url` is an endpoint, `folder` an empty one."""
    monkeypatch.chdir(ROOT)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            names = {"url": server.url, "folder": str(tmp_path)}
            failed, run = doctest.testmod(import_module(name), extraglobs=names)
        finally:
            server.shutdown()
            thread.join()
    assert run
    assert not failed
