"""Whether a release is done already, without a Ray or a registry."""

from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.audit.model_trail import Trail
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.settings import Settings
from tasks import release
from tasks.release import is_done


def test_a_release_that_was_killed_before_its_line_is_not_done(
    make_project: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "is_connected", lambda: False)  # other tests may have a Ray
    project: Project = make_project()
    model = ModelVersion(
        name="small", version=2, uri="models:/small/2", run_id="", digest="d", identity="i"
    )
    trained: Any = SimpleNamespace(model=model)
    duel: Any = SimpleNamespace(champion=model)
    assert is_done(project, settings, trained, duel), "made champion by hand, without a trail"
    trail = Trail(settings, "small", "somebody")
    trail.record("deploy", model)
    assert not is_done(project, settings, trained, duel), "the alias was set, nothing else"
    trail.record("promote", model)
    assert is_done(project, settings, trained, duel)
    trail.record("deploy", model, ("Put back.",))
    assert is_done(project, settings, trained, duel), "champion all the while"
