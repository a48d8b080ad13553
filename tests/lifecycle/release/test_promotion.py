"""Promotion between two registries: equal bytes, both trails, kills, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lifecycle.audit.model_trail import Trail, history, standing
from lifecycle.errors import BundleError, RegistryError, SettingsError
from lifecycle.records import Trained
from lifecycle.release import promotion
from lifecycle.release.artifacts import bundle_path, record_of
from lifecycle.release.mlflow_store import connect
from lifecycle.release.offer import OfferRequest, ask
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias, set_alias, versions
from lifecycle.settings import Settings
from tests.support.promoter import POINTS, ask_here, judgement_of
from tests.support.small import ROOT
from tests.support.trained import Made


@pytest.fixture
def made(small_model: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A champion in `staging`, and an environment `prod` beside it."""
    staging = small_model.settings
    folder = tmp_path / "work" / "deployments"
    folder.mkdir(parents=True)
    (folder / "staging.env").write_text(f"LIFECYCLE_HOME={staging.home}\n")
    (folder / "prod.env").write_text(f"LIFECYCLE_HOME={tmp_path / 'prod'}\n")
    monkeypatch.chdir(folder.parent)
    for name in ("LIFECYCLE_ENV", "LIFECYCLE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return small_model


@pytest.fixture
def prod(made: Made) -> Settings:
    return Settings.load("prod")


def crown(made: Made) -> Trained:
    trained = made.register()
    set_alias(trained.model, CHAMPION, made.settings)
    Trail(made.settings, "small", "anna").record("promote", trained.model)
    return trained


@pytest.mark.component
def test_the_same_bytes_arrive_and_both_trails_say_so(
    made: Made, prod: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = crown(made)
    offer = promotion.take_offer(made.project, prod, "staging")
    assert offer.model == trained.model
    there = bundle_path(trained.model, made.settings)
    here = promotion.bundle_of(offer, prod)
    assert here.path.is_relative_to(prod.home)
    names = sorted(file.name for file in there.iterdir())
    assert names == sorted(file.name for file in here.path.iterdir())
    assert all((there / n).read_bytes() == (here.path / n).read_bytes() for n in names)
    assert here.rounds == made.bundle.rounds
    assert here.curve == made.bundle.curve
    assert versions("small", prod) == {}, "nothing is registered before it is accepted"

    trail = Trail(prod, "small", "ben")
    named = promotion.as_unregistered(made.project, prod, offer)
    promotion.claim(trail, offer, named, standing(trail.changes()), {"reason": "it is time"})
    for _ in range(2):  # again is the same as once
        accepted = promotion.accept(made.project, prod, offer, judgement_of(trained, made.split))
        assert list(versions("small", prod)) == [accepted.model]
    assert accepted.model.digest == trained.model.digest
    assert by_alias("small", CHALLENGER, prod) == accepted.model
    assert bundle_path(accepted.model, prod) == here.path
    record = record_of(accepted.model, prod)
    assert str(record.origin) == "staging v1"
    assert record.origin is not None
    assert record.origin.split.train.uri.startswith(str(made.settings.home))
    run = connect(prod).get_run(accepted.model.run_id)
    assert [data.dataset.name for data in run.inputs.dataset_inputs] == ["holdout"]
    assert run.data.tags["lifecycle.origin"] == "staging v1"
    [line] = history(prod, "small")
    assert line.reasons == (f"From {offer}.", "reason: it is time")

    for _ in range(2):
        promotion.note(made.project, offer, "export", "ben", "prod", "As v1, champion there")
        monkeypatch.setattr(promotion, "ask", ask_here)  # a process of its own takes seconds
    promoted, exported = history(made.settings, "small")
    assert (promoted.action, exported.action, exported.who) == ("promote", "export", "ben")
    assert promotion.take_offer(made.project, prod, "staging").exported == "prod"


@pytest.mark.system
def test_a_holdout_with_rows_it_learned_from_is_warned_of(made: Made, prod: Settings) -> None:
    crown(made)
    offer = promotion.take_offer(made.project, prod, "staging")
    train = made.split.train
    [warning] = promotion.overlap_warning(made.project, offer, train)
    assert warning.startswith(
        f"{train.rows} rows of {train.rows} in this holdout (100%) equal rows that it learned from "
        "in staging: its numbers may be too good."
    )
    assert promotion.overlap_warning(made.project, offer, made.split.holdout) == ()
    gone = offer.trained.split.model_copy(
        update={"train": train.model_copy(update={"uri": f"{train.uri}-gone"})}
    )
    trained = offer.trained.model_copy(update={"split": gone})
    [unknown] = promotion.overlap_warning(
        made.project, offer.model_copy(update={"trained": trained}), made.split.holdout
    )
    assert unknown.startswith("Whether it learned from rows of this holdout is not known: staging:")


@pytest.mark.component
def test_what_cannot_be_promoted_is_refused_and_changes_nothing(
    made: Made, prod: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "ask", ask_here)
    with pytest.raises(RegistryError, match=r"^staging: small has no champion there"):
        promotion.take_offer(made.project, prod, "staging")
    trained = made.register()
    with pytest.raises(RegistryError, match=r"--version: small v1 was never champion there"):
        promotion.take_offer(made.project, prod, "staging", 1)
    set_alias(trained.model, CHAMPION, made.settings)
    with pytest.raises(RegistryError, match=r"small v7 is not registered there.*so far: none"):
        promotion.take_offer(made.project, prod, "staging", 7)
    with pytest.raises(SettingsError, match="unknown environment 'moon'"):
        ask(OfferRequest(project_name="small"), "moon", tmp_path)
    (tmp_path / "work" / "deployments" / "twin.env").write_text(f"LIFECYCLE_HOME={prod.home}\n")
    connect(prod)
    with pytest.raises(RegistryError, match="twin: small has no champion"):
        promotion.take_offer(made.project, prod, "twin")
    same = Settings.load("staging")
    (tmp_path / "work" / "deployments" / "twin.env").write_text(f"LIFECYCLE_HOME={same.home}\n")
    with pytest.raises(SettingsError, match="twin and staging have one registry"):
        promotion.take_offer(made.project, same, "twin")
    client = connect(made.settings)
    uri = client.get_model_version_download_uri("small", "1").removeprefix("file://")
    model = Path(uri) / "data" / trained.model.digest / "model.ubj"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"^staging: .*model\.ubj"):
        promotion.take_offer(made.project, prod, "staging")
    shutil.rmtree(model.parents[2])
    with pytest.raises(BundleError, match=r"^staging: "):
        promotion.take_offer(made.project, prod, "staging")
    assert versions("small", prod) == {}
    assert history(prod, "small") == []
    assert not list(prod.home.glob("bundles/small/*"))


@pytest.mark.system
def test_killed_anywhere_and_run_again_it_ends_in_the_same_state(made: Made) -> None:
    crown(made)
    command = [sys.executable, "-m", "tests.support.promoter", str(made.project.file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *POINTS], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *killed = [json.loads(line) for line in done.stdout.splitlines()]
    assert (whole.pop("ends"), whole.pop("point")) == ([0], "")
    assert whole["prod"] == [
        ["approve", 0, "eve"],
        ["import", 0, "ben"],
        ["deploy", 1, "ben"],
        ["promote", 1, "ben"],
    ]
    assert whole["staging"][-1] == ["export", 1, "ben"]
    assert whole["versions"] == [[1, made.bundle.digest, ["champion"]]]
    assert whole["sound"] == [None, None]
    for state in killed:
        assert state.pop("ends") == [-signal.SIGKILL, 0], state
        point = state.pop("point")
        assert state == whole, point
    assert len(killed) == len(POINTS)
