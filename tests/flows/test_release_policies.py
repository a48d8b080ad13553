"""The release flow with policies: a canary nobody asks, a refusal, the trail, and the way back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.release import command, release
from flows.train import train
from lifecycle.audit.model_trail import history, verify
from lifecycle.project import Project
from lifecycle.release.registry import by_alias, set_alias
from lifecycle.serving.deployment import serving, undeploy
from lifecycle.settings import Settings

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("prefect_server", "ray_cluster")]

LAX: dict[str, Any] = {
    "gain_over_baseline": -1.0,
    "gain_over_champion": -1.0,
    "require_checks": False,
}
QUICK = {"bake_seconds": 1, "max_wait_seconds": 3, "steps": [0.5, 1.0]}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve_port: int) -> Settings:
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", str(serve_port))
    return Settings.load()


def test_release_policies_and_the_way_back(
    settings: Settings,
    make_project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def project(rounds: int, policy: str, gate: dict[str, Any] = LAX) -> Project:
        return make_project(
            gate=gate,
            checks={"suites": []},
            training={"rounds": rounds},
            serving={"rollout": QUICK | {"policy": policy}},
        )

    def roll_back(*more: str) -> tuple[int, str, str]:
        code = command.run(["--project", str(file), "--rollback", *more])
        said = capfd.readouterr()
        return code, said.out, said.err

    first = project(10, "canary")
    file = first.file
    one = release(first, trained=train(first)).champion
    assert one, "nothing was served, so it went straight"
    code, _, err = roll_back()
    assert code == 2
    assert "no version was champion before v1" in err

    trained = train(project(5, "canary"))
    unasked = release(project(5, "canary"), trained=trained)
    assert unasked.endpoint is None
    assert unasked.decision.gate == "canary"
    assert unasked.decision.reasons[0].startswith("Too few answers at 50 %")
    assert unasked.champion == one == by_alias("small", "champion", settings)
    assert by_alias("small", "challenger", settings) == trained.model

    refused = release(project(5, "canary", {"floor": 0.999, "require_checks": False}))
    assert refused.decision.gate == "promotion"
    assert refused.endpoint is None

    monkeypatch.setenv("LIFECYCLE_APPROVAL", "required")
    held = release(project(5, "straight"), unattended=True)
    assert (held.decision.gate, held.decision.passed) == ("approval", False)
    assert "v2 passed the gate and waits as challenger" in held.decision.reasons[0]
    assert held.champion == one == serving("small")
    assert by_alias("small", "challenger", settings) == trained.model

    two = release(project(5, "straight"), reason="no traffic at night")
    assert two.champion == trained.model
    code, out, _ = roll_back("--reason", "complaints")
    assert code == 0
    assert "small v1 is champion and answers" in out
    assert by_alias("small", "champion", settings) == one

    undeploy("small")  # as a cluster that was started anew
    for is_gone in (True, False):
        restored = release(project(5, "straight"), restore=True, reason="new nodes")
        assert (restored.champion, restored.endpoint is not None) == (one, is_gone)
    assert serving("small") == one, "though a better version may wait"
    set_alias(trained.model, "champion", settings)  # as in a registry that went back
    assert release(project(5, "straight"), restore=True).champion == trained.model
    assert serving("small") == trained.model

    changes = history(settings, "small")
    assert [(c.action, c.version) for c in changes] == [
        ("deploy", 1),
        ("promote", 1),
        ("canary", 2),
        ("reject", 2),
        ("reject", 2),
        ("deploy", 2),
        ("promote", 2),
        ("rollback", 1),
        ("deploy", 1),
        ("deploy", 2),
        ("promote", 2),
    ]
    assert changes[-1].reasons == ("The registry has it as champion.",)
    assert changes[-2].reasons == ("It is the champion, and v1 answered.",)
    assert changes[-3].reasons == ("It is the champion, and nothing answered.", "new nodes")
    assert changes[-4].reasons == ("Back from v2, by hand.", "complaints")
    assert "no traffic at night" in changes[6].reasons
    assert any("gate.floor" in reason for reason in changes[4].reasons)
    assert all("flow run release-small" in change.who for change in changes)
    assert verify(settings, "small") is None
