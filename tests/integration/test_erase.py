"""Erasure through the real flows: after it, no byte on disk names the person."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle.governance.erase import check
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.release.artifacts import record_of
from lifecycle.release.registry import CHAMPION, by_alias, versions
from lifecycle.settings import Settings
from tests.support.person import EMAIL, PERSON, frame_with_person, log, project_changes
from tests.support.scripts import environment
from tests.support.small import ROOT

pytestmark = pytest.mark.system
GATE = {"gain_over_baseline": -1.0, "require_checks": False}
ALIAS = "zoe.private@planted.example"
"""In no column: only whoever asks for the erasure knows that it is theirs."""


def run(home: Path, flow: str, project: Project, *more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", f"flows.{flow}", "--project", str(project.file), *more],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout


def train_and_erase(project: Project, settings: Settings, *more: str) -> tuple[ModelVersion, str]:
    """The model that had learned from the person, and what the erasure said."""
    home = settings.home
    code, screen = run(home, "train", project)
    assert code == 0, screen
    (first,) = versions("small", settings)
    log(project, settings, [PERSON, None])
    assert check(project, settings, [PERSON]).left
    (home / "mail.log").write_text(f"could not reach {ALIAS}\n")

    erase = ("--entity", PERSON, "--value", ALIAS, "--reason", "letter 17", *more)
    code, screen = run(home, "erase", project, *erase)
    assert code == 0, screen
    assert "nothing is left" in screen
    assert "small v1 (challenger) learned from 4 of these rows" in screen
    assert PERSON not in screen
    for word in (PERSON, "Zo\\u00eb", EMAIL, ALIAS):
        files = [path for path in home.rglob("*") if path.is_file()]
        assert [path for path in files if word.encode() in path.read_bytes()] == []
    assert check(project, settings, [PERSON]).left == ()
    assert record_of(first, settings).model == first
    return first, screen


@pytest.mark.smoke
def test_a_person_is_erased_from_everything_a_training_wrote(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    checks = {"suites": ["data_integrity"]}
    project = make_project(frame_with_person(), **project_changes(), gate=GATE, checks=checks)
    first, screen = train_and_erase(project, settings)
    assert "registered small v2" not in screen
    assert list(versions("small", settings)) == [first]


def test_a_person_is_erased_from_everything_the_flows_wrote(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(frame_with_person(), **project_changes(), gate=GATE)
    _, screen = train_and_erase(project, settings, "--retrain")
    assert "registered small v2" in screen, "the data have changed, so nothing comes from a cache"
    second = by_alias("small", CHAMPION, settings)
    assert second == next(iter(versions("small", settings)))
    trained = record_of(second, settings)
    parts = (trained.split.train, trained.split.validation, trained.split.holdout)
    assert sum(part.rows for part in parts) == 396
    assert check(project, settings, [PERSON]).left == ()


def test_a_champion_that_learned_from_the_person_is_replaced(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    """By the command that the erasure names, since what it asks for is gone then."""
    gate = GATE | {"gain_over_champion": -1.0}
    project = make_project(frame_with_person(), **project_changes(), gate=gate)
    for flow in ("train", "release"):
        code, screen = run(settings.home, flow, project)
        assert code == 0, screen
    erase = ("--entity", PERSON, "--reason", "letter 17")
    code, screen = run(settings.home, "erase", project, *erase)
    assert code == 0, screen
    code, screen = run(settings.home, "retrain", project, "--force")
    assert code == 0, screen
    champion = by_alias("small", CHAMPION, settings)
    assert champion is not None
    assert champion.version == 2
    assert record_of(champion, settings).split.rows == 396
