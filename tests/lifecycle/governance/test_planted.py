"""No secret of any variable is kept by stages: in tables, bundles, MLflow's database or pages."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.governance.erase import check
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.planted import PLANTED, planted_in


def test_stages_and_a_search_keep_and_say_none(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load().model_copy(update={"home": settings.home})
    made = train(make_project(), settings)
    made.register()
    searched = check(made.project, settings, ["1001"], [])
    assert searched.left
    assert "its driver is not installed" in str(searched.unsearched)
    assert "planted" not in str(searched)
    assert (settings.home / "mlflow.db").is_file()
    assert [*planted_in(settings.home)] == []
