"""Canary, shadow and rollback on a real Ray Serve under load: what is good takes over, what is bad
is gone within seconds, and no request is lost meanwhile.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest
import yaml

from lifecycle.audit.model_trail import Trail, verify
from lifecycle.lake.logged_predictions import read_log
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Decision, ModelVersion, Traffic
from lifecycle.release import policies, registry, rollback
from lifecycle.release.registry import CHAMPION, by_alias
from lifecycle.release.rollout import Handover, RolloutOutcome
from lifecycle.release.watch import LogWatch
from lifecycle.serving.deployment import serving, undeploy
from lifecycle.settings import Settings
from tasks.rollout import ServeLane
from tests.support.load import Load, load
from tests.support.small import SMALL, small_frame
from tests.support.trained import train_small

pytestmark = pytest.mark.system

HOOKS = {
    "raising": "if len(inputs) == 1 and inputs['visits'].iloc[0] < 4: raise ValueError('no')",
    "slow": "if len(inputs) == 1: time.sleep(0.1)",
}
"""Bad with single requests only: with the rows of training and rehearsal nothing is wrong."""
PROMPT = 10.0
"""Seconds from the first request that reaches a bad version to the last."""


class Versions(NamedTuple):
    settings: Settings
    projects: dict[str, Project]
    models: dict[str, ModelVersion]

    def roll_out(self, name: str, policy: str, **more: Any) -> RolloutOutcome:
        """Release a version as the project's policy says; its steps are short."""
        champion = by_alias("small", CHAMPION, self.settings)
        rollout = {"policy": policy, "steps": [0.5, 1.0], "bake_seconds": 3, **more}
        given = self.projects[name]
        serving = given.serving.model_dump() | {"rollout": rollout}
        project = given.model_copy(update={"serving": type(given.serving).model_validate(serving)})
        model = self.models[name]
        return policies.roll_out(
            Handover(
                challenger=model,
                champion=champion,
                decision=Decision(gate="promotion", passed=True, reasons=("Good enough.",)),
                lane=ServeLane(project, self.settings),
                trail=self.trail,
                spec=project.serving.rollout,
                watch=LogWatch(project, self.settings, model, champion or model, time.time()),
                tell=lambda text, stays: None,
            )
        )

    @property
    def trail(self) -> Trail:
        return Trail(self.settings, "small", "tester")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, serve_port: int) -> Versions:
    settings = Settings(home=tmp_path_factory.mktemp("canary"), serve_port=serve_port)
    projects, models = {}, {}
    for seed, name in enumerate(("first", "good", "shifted", "raising", "slow")):
        folder = settings.folder("projects", name)
        frame = small_frame()
        if name == "shifted":
            frame["bought"] = (frame.index % 10 != 0).astype(int)
        frame.to_csv(folder / "small.csv", index=False)
        more: dict[str, Any] = {}
        if name in HOOKS:
            code = f"import time\n\n\ndef build(inputs):\n    {HOOKS[name]}\n    return inputs\n"
            (folder / "features.py").write_text(code)
            more["features"] = "features:build"
        (folder / "project.yaml").write_text(yaml.safe_dump(SMALL | more, sort_keys=False))
        projects[name] = load_project(folder / "project.yaml")
        models[name] = train_small(projects[name], settings, seed=seed).register().model
    return Versions(settings, projects, models)


@pytest.fixture
def loaded(versions: Versions, ray_cluster: None) -> Iterator[Load]:
    """`first` is champion and served; four clients keep asking."""
    outcome = versions.roll_out("first", "straight")
    assert outcome.endpoint
    records: list[dict[str, Any]] = small_frame().drop(columns="bought").to_dict("records")
    with load(outcome.endpoint.url, records) as made:
        made.wait_for(200)
        yield made
    assert made.failures == []
    assert made.total > 1000
    undeploy("small")


def served(versions: Versions) -> tuple[str, str]:
    """Which version is served, and which is champion."""
    names = {model.version: name for name, model in versions.models.items()}
    found = serving("small"), by_alias("small", CHAMPION, versions.settings)
    return tuple(names[model.version] for model in found if model)  # type: ignore[return-value]


def test_a_good_one_takes_over_step_by_step_and_goes_back_by_hand(
    versions: Versions, loaded: Load
) -> None:
    first, good = versions.models["first"], versions.models["good"]
    before = time.time()
    outcome = versions.roll_out("good", "canary")
    assert outcome.decision.passed, outcome.decision.reasons
    assert served(versions) == ("good", "good")
    seen = loaded.versions[good.version]
    loaded.wait_for(loaded.total + 300)
    assert loaded.versions[good.version] - seen >= 250, "the alias and the answers are one"
    time.sleep(1.5)
    log = read_log(versions.settings, "small", before)
    by_role = log.groupby("role")["version"].unique().map(set).to_dict()
    assert by_role["candidate"] == {good.version}
    assert by_role["champion"] == {first.version, good.version}
    halves = log[log["time"] < log[log["role"] == "candidate"]["time"].max()]
    one_each = halves[halves["version"] == good.version].groupby("entity").size()
    assert len(one_each) >= 50, "half of 200 customers, and no customer of the other half early"

    lines = [(c.action, c.version) for c in versions.trail.changes()][-4:]
    assert lines == [
        ("canary", good.version),
        ("canary", good.version),
        ("deploy", good.version),
        ("promote", good.version),
    ]

    registered = {m.version: m for m in registry.versions("small", versions.settings)}
    lane = ServeLane(versions.projects["good"], versions.settings)
    champion = by_alias("small", CHAMPION, versions.settings)
    rolled = rollback.roll_back(champion, registered, lane, versions.trail, "to see it work")
    assert rolled.champion == first
    assert served(versions) == ("first", "first")
    assert verify(versions.settings, "small") is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("shifted", "Other predictions", marks=pytest.mark.smoke),
        ("raising", "Too many errors"),
        ("slow", "Too slow"),
    ],
)
def test_a_bad_one_is_sent_back_within_seconds(
    versions: Versions, loaded: Load, name: str, why: str
) -> None:
    bad = versions.models[name].version
    outcome = versions.roll_out(name, "canary", bake_seconds=30)
    back = time.monotonic()
    assert outcome.endpoint is None
    assert any(reason.startswith(why) for reason in outcome.decision.reasons)
    assert served(versions) == ("first", "first")

    canary, reject = versions.trail.changes()[-2:]
    assert (canary.action, reject.action) == ("canary", "reject")
    assert reject.reasons == outcome.decision.reasons
    began, ended = (datetime.fromisoformat(change.time) for change in (canary, reject))
    took = (ended - began).total_seconds()
    assert took <= PROMPT
    loaded.wait_for(loaded.total + 200)
    its = [at for at, version in loaded.answers if version == bad]
    if name != "raising":
        assert its, "it did answer for a while"
    assert all(at <= back for at in its)
    print(f"{name}: sent back {took:.1f} s after the step began: {reject.reasons[0]}")  # noqa: T201


def test_a_shadow_answers_nobody(versions: Versions, loaded: Load) -> None:
    shifted, good = versions.models["shifted"].version, versions.models["good"].version
    outcome = versions.roll_out("shifted", "shadow", bake_seconds=30)
    assert outcome.endpoint is None
    assert any(reason.startswith("Other predictions") for reason in outcome.decision.reasons)
    assert any("answers side by side" in reason for reason in outcome.decision.reasons)
    assert shifted not in loaded.versions

    outcome = versions.roll_out("good", "shadow")
    assert outcome.decision.passed, outcome.decision.reasons
    assert served(versions) == ("good", "good")
    loaded.wait_for(loaded.total + 100)
    assert loaded.versions[good]
    assert shifted not in loaded.versions


def test_a_killed_release_leaves_the_champion(versions: Versions, loaded: Load) -> None:
    """Nobody renews the lease: when it has run out, the champion answers all."""
    good = versions.models["good"]
    lane = ServeLane(versions.projects["good"], versions.settings)
    lane.start_candidate(good)
    traffic = Traffic(policy="canary", candidate=good, share=1.0, expires_at=time.time() + 4)
    lane.set_traffic(traffic)
    end = time.monotonic() + 4
    loaded.wait_for(loaded.total + 100)
    time.sleep(max(0.0, end - time.monotonic()) + 1)
    loaded.wait_for(loaded.total + 200)
    its = [at for at, version in loaded.answers if version == good.version]
    assert its, "it answered until then"
    assert max(its) <= end + 0.5
    lane.stop_candidate()
