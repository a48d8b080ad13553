"""`python -m tasks.deployments`: names, variables, and what is removed, on a Prefect server."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, temporary_settings

from lifecycle.errors import SettingsError
from lifecycle.project import Project
from tasks.deployments import Change, _error_of, deploy, find_target, main, read_declarations
from tests.support.small import ROOT

WHOLE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
POOL = "lifecycle-test"


@pytest.fixture
def operator(
    tmp_path: Path, make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with an environment `test`, one project in its file and another one."""
    monkeypatch.chdir(tmp_path)
    for name in ("LIFECYCLE_PROJECT", "LIFECYCLE_WORKSPACE", "LIFECYCLE_ENV"):
        monkeypatch.delenv(name, raising=False)
    make_project()
    other = (tmp_path / "project.yaml").read_text().replace("name: small", "name: other", 1)
    (tmp_path / "other.yaml").write_text(other)
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments" / "test.env").write_text(
        f"LIFECYCLE_WORKSPACE={tmp_path}\nLIFECYCLE_PROJECT=project.yaml\n"
        "LIFECYCLE_TIMEZONE=Europe/Berlin\n"
    )
    declare(tmp_path, "retention", "erase")
    return tmp_path


def declare(folder: Path, *flows: str, **schedules: list[dict[str, Any]]) -> None:
    """Write a prefect.yaml with some of the flows, and some schedules in place of theirs."""
    chosen = []
    for deployment in WHOLE["deployments"]:
        name = deployment["entrypoint"].split(".")[1]
        if name in flows:
            changed = {"schedules": schedules[name]} if name in schedules else {}
            chosen.append(deployment | changed)
    (folder / "prefect.yaml").write_text(yaml.safe_dump({"deployments": chosen}))


def deployed(*tags: str) -> dict[str, DeploymentResponse]:
    """Deployments of the tests' environment on the server, by flow and name."""
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=["lifecycle", "test", *tags]))
    with get_client(sync_client=True) as client:
        found = client.read_deployments(deployment_filter=tagged)
    return {f"{(d.entrypoint or '').rpartition('.')[2]}/{d.name}": d for d in found}


def deploy_now(project: str | None = None) -> Change:
    target = find_target("test", project)
    return deploy(target, read_declarations(target))


@pytest.fixture
def pool(prefect_server: None) -> None:
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def test_the_project_of_the_file_has_the_plain_name_however_it_is_spelled(operator: Path) -> None:
    first, other = find_target("test"), find_target("test", "other.yaml")
    assert (first.name, first.tags) == ("test", ("lifecycle", "test", "project:small"))
    assert (other.name, other.tags) == ("test-other", ("lifecycle", "test", "project:other"))
    assert find_target("test", str(operator / "project.yaml")).name == "test"
    assert other.variables["LIFECYCLE_PROJECT"] == "other.yaml"


def test_a_variable_of_the_environment_wins_over_the_file(
    operator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_PROJECT", "other.yaml")
    monkeypatch.setenv("LIFECYCLE_SCHEDULES", "off")
    target = find_target("test")
    assert (target.name, target.variables["LIFECYCLE_SCHEDULES"]) == ("test-other", "off")
    (operator / "deployments" / "test.env").write_text(f"LIFECYCLE_WORKSPACE={operator}\n")
    assert find_target("test").name == "test", "the only one that is named"


@pytest.mark.parametrize("missing", ["LIFECYCLE_WORKSPACE", "LIFECYCLE_PROJECT"])
def test_an_unset_variable_is_one_line_that_names_it(operator: Path, missing: str) -> None:
    file = operator / "deployments" / "test.env"
    file.write_text(
        "".join(line for line in file.read_text().splitlines(keepends=True) if missing not in line)
    )
    told = f"^{missing} is not set: set it in deployments/test.env or in the environment$"
    with pytest.raises(SettingsError, match=told):
        read_declarations(find_target("test"))


def test_a_variable_of_ones_own_is_asked_for_too(
    operator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = yaml.safe_load((operator / "prefect.yaml").read_text())
    declared["deployments"][0]["description"] = "of {{ $TEAM }}"
    text = yaml.safe_dump(declared)
    (operator / "prefect.yaml").write_text(f"# {{{{ $IN_A_COMMENT }}}}\n{text}")
    with pytest.raises(SettingsError, match=r"^TEAM is not set"):
        read_declarations(find_target("test"))
    monkeypatch.setenv("TEAM", "forecasts")
    assert len(read_declarations(find_target("test"))) == 2


def test_a_time_zone_that_does_not_exist_is_refused(
    operator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_TIMEZONE", "Europe/Berlim")
    with pytest.raises(SettingsError, match=r"LIFECYCLE_TIMEZONE: .* did you mean Europe/Berlin"):
        find_target("test")


def test_a_name_that_another_environment_has_is_refused(operator: Path) -> None:
    (operator / "deployments" / "test-other.env").write_text("LIFECYCLE_PROJECT=project.yaml\n")
    with pytest.raises(SettingsError, match=r"deployments/test-other\.env: rename that file"):
        find_target("test", "other.yaml")


def test_without_a_server_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for url, reason in (
        ("http://127.0.0.1:9/api", "no Prefect server answers at http://127.0.0.1:9"),
        (None, "PREFECT_API_URL is not set: name your Prefect server"),
    ):
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(SystemExit) as ended:
            main(["--env", "dev"])
        message = capsys.readouterr().err
        assert (ended.value.code, message.count("\n")) == (2, 1)
        assert reason in message


@pytest.mark.usefixtures("prefect_server")
def test_a_missing_work_pool_is_one_line_with_the_command(operator: Path) -> None:
    (operator / "deployments" / "poolless.env").write_text(
        f"LIFECYCLE_WORKSPACE={operator}\nLIFECYCLE_PROJECT=project.yaml\n"
    )
    target = find_target("poolless")
    with pytest.raises(SettingsError, match="prefect work-pool create lifecycle-poolless"):
        deploy(target, read_declarations(target))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n'
            "ModuleNotFoundError: No module named 'flows.nothing'\nAn exception occurred.\n",
            "ModuleNotFoundError: No module named 'flows.nothing'",
        ),
        ("╭──╮\n│ Deploying test │\n╰──╯\nA name must\nbe given.\n", "A name must be given."),
    ],
)
def test_of_what_prefect_says_the_message_is_shown(output: str, message: str) -> None:
    assert _error_of(output) == message


@pytest.mark.system
@pytest.mark.usefixtures("pool")
def test_projects_are_deployed_side_by_side_again_and_removed(operator: Path) -> None:
    (nightly,) = next(d for d in WHOLE["deployments"] if "retention" in d["entrypoint"])[
        "schedules"
    ]
    extra = nightly | {"cron": "0 1 * * *", "slug": "extra"}
    declare(operator, "retention", "erase", "retrain", retention=[nightly, extra])
    change = deploy_now()
    names = ("retrain/test", "erase/test", "retention/test")
    assert (change.deployed, change.removed) == (dict.fromkeys(names, "made"), ())
    assert deployed()["retrain/test"].parameters["unattended"] is True
    with get_client(sync_client=True) as client:
        (automation,) = client.read_automations_by_name("lifecycle small in test: retraining")
        (started,) = automation.actions
        assert started.deployment_id == deployed()["retrain/test"].id
    declare(operator, "retention", "erase", retention=[nightly, extra])
    change = deploy_now()
    assert change.automations["lifecycle small in test: retraining"] == "removed", "with it"
    assert change.deployed == dict.fromkeys(names[1:], "unchanged")
    assert change.lines[:3] == [
        "unchanged  erase/test",
        "unchanged  retention/test",
        "removed    retrain/test",
    ]
    deploy_now("other.yaml")
    first = deployed()
    assert set(first) == {
        *("erase/test", "retention/test", "erase/test-other", "retention/test-other"),
    }
    assert first["retention/test-other"].parameters == {"project": "other.yaml", "env": "test"}
    assert first["retention/test"].tags == ["lifecycle", "test", "project:small"]
    schedules = {schedule.slug: schedule for schedule in first["retention/test"].schedules}
    assert {slug: s.active for slug, s in schedules.items()} == {"nightly": True, "extra": True}
    assert schedules["nightly"].schedule.timezone == "Europe/Berlin"
    with get_client(sync_client=True) as client:  # somebody, on Prefect's page
        retention = first["retention/test"].id
        client.update_deployment_schedule(retention, schedules["nightly"].id, active=False)

    declare(operator, "retention")
    change = deploy_now()
    assert change.removed == ("erase/test",)
    assert change.deployed == {"retention/test": "changed"}
    assert change.unscheduled == ("retention/test extra",)
    second = deployed()
    assert set(second) == {"retention/test", "erase/test-other", "retention/test-other"}
    assert [(s.slug, s.active) for s in second["retention/test"].schedules] == [("nightly", True)]
    assert second["retention/test"].id == first["retention/test"].id, "updated, not made anew"
    other = "retention/test-other"
    assert second[other].updated == first[other].updated, "left alone"

    main(["--env", "test", "--remove"])
    main(["--env", "test", "--project", "other.yaml", "--remove"])
    assert deployed() == {}
