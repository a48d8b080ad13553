"""Where the summary sends people: to a command that says the port, never to a guessed one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.quality.summary import _places
from lifecycle.settings import Settings


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        ("", "MLflow         `make ui` says where its pages are (sqlite:///"),
        ("http://ml:81", "http://ml:81"),
    ],
)
def test_no_port_is_guessed(tmp_path: Path, tracking: str, told: str) -> None:
    settings = Settings(home=tmp_path, mlflow_tracking_uri=tracking)
    project: Any = SimpleNamespace(name="small", file="project.yaml")
    trained: Any = SimpleNamespace(checks=SimpleNamespace(reports=()))
    text = "\n".join(_places(project, settings, trained, [], []).text)
    assert told in text
    assert "127.0.0.1" not in text
    assert "Prefect        `make ui` says where its pages are" in text
