"""The checks as a task: what its cache key holds, and that what did not run is run again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.project import Project
from lifecycle.quality.program import ChecksProgram
from lifecycle.records import CheckReport, DatasetVersion, Split
from lifecycle.runtime import identity
from lifecycle.settings import Settings
from tasks import quality, release

NOT_RUN = CheckReport(
    passed=(), failed={}, not_run={"Suite x": "no interpreter"}, reports=(), sampled_rows=0
)
RAN = NOT_RUN.model_copy(update={"passed": ("Feature Drift",), "not_run": {}})


def environment(folder: Path, *packages: str) -> Path:
    """The interpreter of an environment with these packages."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    for package in packages:
        (folder / "lib/python3.11/site-packages" / f"{package}.dist-info").mkdir(parents=True)
    return python


def test_the_checks_environment_is_in_the_key_of_the_check(tmp_path: Path) -> None:
    def key(python: Path) -> str:
        settings = Settings(home=tmp_path / "home", checks_python=python)
        arguments: dict[str, Any] = {"project": 1, "split": 2, "bundle": 3, "settings": settings}
        context: Any = SimpleNamespace(task=quality._check)
        make: Any = quality._check.cache_key_fn
        return str(make(context, arguments))

    a = environment(tmp_path / "a", "numpy-1.26.4")
    b = environment(tmp_path / "b", "numpy-2.0.0")
    again = environment(tmp_path / "again", "numpy-1.26.4")
    assert key(a) == key(again)
    assert key(a) != key(b)
    assert key(a) != key(tmp_path / "nowhere")


def test_the_checks_lock_is_in_its_digest_and_in_no_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, health: Project
) -> None:
    part = DatasetVersion(uri="t", version=1, digest="d", rows=3)
    split = Split(train=part, validation=part, holdout=part, withheld=0, rule="")
    python = environment(tmp_path / "a")
    package = tmp_path / "lifecycle"
    package.mkdir()
    identity.lock_digest()  # remembered, so that both identities have one
    digests, identities = set(), set()
    for text in ("deepchecks==0.19.1", "deepchecks==0.19.2"):
        (tmp_path / "requirements-checks.lock").write_text(text)
        with monkeypatch.context() as patch:
            patch.setattr(identity, "PACKAGE", package)
            digests.add(identity.checks_digest(python))
        identities.add(identity.identity_of(health, split, "", 1).digest)
    assert len(digests) == 2
    assert len(identities) == 1


@pytest.mark.parametrize("asked", [False, True])
def test_what_did_not_run_is_not_taken_from_the_cache(
    asked: bool, settings: Settings, health: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ChecksProgram(settings)
    program.is_used = asked  # whether it was in this run: then nothing came from the cache
    monkeypatch.setattr(quality, "run_suites", lambda *arguments: NOT_RUN)
    monkeypatch.setattr(quality, "run_suites_anew", lambda *arguments: RAN)
    given: Any = None
    report = quality.check_candidate(health, settings, given, given, program)
    assert report == (NOT_RUN if asked else RAN)


@pytest.mark.parametrize(
    ("report", "there", "found"),
    [(NOT_RUN, True, False), (NOT_RUN, False, True), (RAN, True, True)],
)
def test_a_model_whose_checks_did_not_run_is_checked_once_they_can(
    report: CheckReport,
    there: bool,
    found: bool,
    tmp_path: Path,
    health: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = environment(tmp_path / "a") if there else tmp_path / "nowhere"
    settings = Settings(home=tmp_path / "home", checks_python=python)
    model = SimpleNamespace(name="m", version=1)
    estimate = SimpleNamespace(value=0.5, low=0.4, high=0.6)
    evaluation = SimpleNamespace(metrics={health.metric: estimate})
    trained = SimpleNamespace(checks=report, noise=None, evaluation=evaluation)
    monkeypatch.setattr(release.registry, "find_by_identity", lambda *arguments: model)
    monkeypatch.setattr(release.artifacts, "record_of", lambda *arguments: trained)
    monkeypatch.setattr(release.registry, "set_alias", lambda *arguments: None)
    identified: Any = SimpleNamespace(digest="0" * 64)
    answer = release.find_trained.fn(health, settings, identified)
    assert (answer is trained) == found
