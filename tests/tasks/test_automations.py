"""Automations on a real Prefect server: lost runs, notices, silence; a webhook and a mailbox."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.events import emit_event
from prefect.events.schemas.automations import EventTrigger
from prefect.events.worker import EventsWorker
from prefect.server.events.ordering import PRECEDING_EVENT_LOOKBACK
from prefect.settings import PREFECT_EVENTS_EXPIRED_BUCKET_BUFFER
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Running
from pydantic import TypeAdapter

from lifecycle.errors import SettingsError
from lifecycle.project import Project
from lifecycle.records import ModelVersion, RetrainingRequest
from lifecycle.runtime.servers import LATE_EVENTS
from lifecycle.settings import Settings
from tasks import automations
from tasks.automations import Watch, declare, find_blocks, keep_automations
from tasks.events import Details, Event, send_deployed, send_event
from tests.support.prefect_server import wait_for
from tests.support.sinks import mailbox, webhook

ROOT = Path(__file__).parents[2]

SHORT_S = 10
"""The shortest time in which Prefect may miss an event."""
MODEL = ModelVersion(
    name="watched", version=3, uri="models:/watched/3", run_id="r", digest="d" * 64, identity="i"
)
WATCH = Watch(
    env="dev",
    project="watched",
    tags=("lifecycle", "dev", "project:watched"),
    blocks=(),
    expected={"scoring": Event.SCORING_FINISHED},
    heartbeat_s=SHORT_S / 3 + 0.01,
    silence=timedelta(seconds=SHORT_S),
    quiet=timedelta(),
)


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client
        keep_automations(client, WATCH.prefix, [])


@pytest.fixture
def sinks(client: SyncPrefectClient) -> Iterator[tuple[Settings, list[Any], list[Any]]]:
    """Settings that name a webhook and a mailbox, what was posted, and what was mailed."""
    with ExitStack() as stack:
        url, posted = stack.enter_context(webhook())
        port, mailed = stack.enter_context(mailbox())
        json_data = {"text": "{{subject}}\n{{body}}"}
        hook = CustomWebhookNotificationBlock(name="sink", url=url, json_data=json_data)
        hook.save("sink", overwrite=True)
        mail = f"mailto://127.0.0.1:{port}?from=ops@here.example&to=team@here.example"
        SlackWebhook(url=mail).save("sink", overwrite=True)  # the way docs/how-to names
        names = "custom-webhook/sink slack-webhook/sink"
        yield Settings(notify=names), posted, mailed


def run_of_a_deployment(client: SyncPrefectClient, tags: tuple[str, ...]) -> UUID:
    """A run of a deployment, about to begin."""
    flow = client.create_flow_from_name("watched")
    deployment = client.create_deployment(flow, name=tags[-1], tags=list(tags))
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, Pending())
    return run.id


def begin(client: SyncPrefectClient, run: UUID) -> None:
    client.set_flow_run_state(run, Running())


def give_a_sign_of_life(run: UUID, tags: tuple[str, ...]) -> None:
    """As the engine of a run does: `FlowRunEngine._emit_flow_run_heartbeat`."""
    related = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
        for tag in tags
    ]
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    emit_event("prefect.flow-run.heartbeat", resource=resource, related=related)


def state(client: SyncPrefectClient, run: UUID) -> tuple[str, str]:
    found = client.read_flow_run(run).state
    assert found
    return found.name or "", found.message or ""


def test_automations_are_kept_as_declared_and_only_those_of_the_project(
    client: SyncPrefectClient, sinks: tuple[Settings, list[Any], list[Any]]
) -> None:
    watch = replace(WATCH, blocks=find_blocks(client, sinks[0]), quiet=timedelta(hours=3))
    other = replace(watch, project="watched_too")
    assert len(keep_automations(client, watch.prefix, declare(watch))) == 9
    keep_automations(client, other.prefix, declare(other))
    again = keep_automations(client, watch.prefix, declare(watch))
    assert set(again.values()) == {"unchanged"}

    (notices,) = client.read_automations_by_name(f"{watch.prefix}notices")
    client.pause_automation(notices.id)
    louder = replace(watch, quiet=timedelta(hours=1), silence=timedelta(hours=30))
    outcomes = keep_automations(client, watch.prefix, declare(louder))
    names = {name.removeprefix(watch.prefix): outcome for name, outcome in outcomes.items()}
    assert {name: outcome for name, outcome in names.items() if outcome != "unchanged"} == {
        "no scoring": "changed",
        "notices 2 h before quiet hours end": "removed",
        "notices 3 h before quiet hours end": "removed",
    }
    assert not client.read_automations_by_name(notices.name)[0].enabled, "somebody paused it"

    keep_automations(client, watch.prefix, [])
    names = [automation.name for automation in client.read_automations()]
    assert not [name for name in names if name.startswith(watch.prefix)]
    assert len(keep_automations(client, other.prefix, [])) == 9


def test_requests_about_a_champion_start_one_run_that_carries_the_first(
    client: SyncPrefectClient, make_project: Callable[..., Project]
) -> None:
    flow = client.create_flow_from_name("retrain")
    declared = {"project": "shop.yaml", "env": "dev", "unattended": True}
    deployment = client.create_deployment(flow, name="request", parameters=declared)
    keep_automations(client, WATCH.prefix, declare(replace(WATCH, retraining=deployment)))
    reasons = ('auc is "0.2" worse',)
    numbers = {"triggers": ["quality", "new data"]}
    details = Details(MODEL, "page.html", reasons, numbers)
    for name in ("another", "watched", "watched"):
        project = make_project(name=name)
        send_event(Event.RETRAINING_ASKED, project, Settings(), details)
    next_champion = replace(details, model=MODEL.model_copy(update={"version": 4}))
    send_event(Event.RETRAINING_ASKED, project, Settings(), next_champion)
    EventsWorker.drain_all(timeout=10)
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    wait_for(lambda: len(client.read_flow_runs(deployment_filter=of_it)) > 1, 20, "two runs")
    runs = client.read_flow_runs(deployment_filter=of_it)
    requests = [RetrainingRequest.model_validate(run.parameters.pop("request")) for run in runs]
    assert sorted(requests, key=lambda request: request.version) == [
        RetrainingRequest(version=version, triggers=("quality", "new data"), reasons=reasons)
        for version in (3, 4)
    ]
    assert [run.parameters for run in runs] == [declared, declared]


def test_the_servers_we_start_outlast_what_prefect_holds_back_after_a_restart() -> None:
    """Shown by hand, as it takes 16 minutes: decision 39."""
    (name, duration), *_ = LATE_EVENTS.items()
    kept = TypeAdapter(timedelta).validate_python(duration)
    (taken_up,) = (core.trigger for core in declare(WATCH) if "taken up" in core.name)
    assert isinstance(taken_up, EventTrigger)
    assert kept > PRECEDING_EVENT_LOOKBACK + taken_up.within
    assert PREFECT_EVENTS_EXPIRED_BUCKET_BUFFER.value() < PRECEDING_EVENT_LOOKBACK
    for file in ("deployments/start.sh", "docs/how-to/deploy.md"):
        assert f"{name}={duration}" in (ROOT / file).read_text()


def test_a_block_that_is_not_there_is_refused(client: SyncPrefectClient) -> None:
    with pytest.raises(SettingsError, match=r"LIFECYCLE_NOTIFY: .* 'slack-webhook/nobody'"):
        find_blocks(client, Settings(notify="slack-webhook/nobody"))


@pytest.mark.system
def test_lost_runs_are_taken_up_again_and_people_are_told_once_per_cause(
    client: SyncPrefectClient,
    sinks: tuple[Settings, list[Any], list[Any]],
    make_project: Callable[..., Project],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(automations, "QUIET_STEP", timedelta(seconds=SHORT_S))
    monkeypatch.setattr(automations, "CANCELLED_WITHIN", timedelta(seconds=SHORT_S))
    settings, posted, mailed = sinks
    quiet = timedelta(seconds=SHORT_S)
    watch = replace(WATCH, blocks=find_blocks(client, settings), quiet=quiet)
    keep_automations(client, watch.prefix, declare(watch))
    project = make_project(name="watched")
    of_another = ("lifecycle", "dev", "project:another")
    lost, foreign = (run_of_a_deployment(client, tags) for tags in (watch.tags, of_another))
    for run, tags in ((lost, watch.tags), (foreign, of_another)):
        begin(client, run)
        give_a_sign_of_life(run, tags)
    cancelled = run_of_a_deployment(client, watch.tags)
    begin(client, cancelled)
    for state_ in (Cancelling(), Crashed(message="aborted by a termination signal"), Cancelled()):
        client.set_flow_run_state(cancelled, state_, force=True)
    unstarted = run_of_a_deployment(client, watch.tags)
    client.set_flow_run_state(unstarted, Crashed(message="Failed to submit"))
    send_deployed("watched", settings)

    # two runs meet the same refusal; a rollback; and a gate that closes in the night
    for _ in range(2):
        refusal = Details(reasons=("200 rows break the contract",))
        send_event(Event.DATA_REFUSED, project, settings, refusal)
    details = Details(MODEL, "models:/watched/3", ("complaints from Oslo",))
    send_event(Event.MODEL_ROLLED_BACK, project, settings, details)
    now = datetime.now(UTC)
    night = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(minutes=30):%H:%M}"
    asleep = settings.model_copy(update={"quiet_hours": night})
    send_event(Event.MODEL_REJECTED, project, asleep, Details(MODEL, reasons=("no gain",)))
    EventsWorker.drain_all(timeout=10)
    wait_for(lambda: len(posted) >= 2, 20, "what is told at once")
    assert sorted(post["text"].splitlines()[0] for post in posted) == [
        "watched in dev: a batch was refused",
        "watched in dev: v3 was rolled back",
    ]
    at_once = len(posted)

    wait_for(lambda: state(client, lost)[0] == "AwaitingRetry", 40, "the lost run's new start")
    assert state(client, lost)[1] == "taken up again"
    wait_for(lambda: state(client, unstarted)[0] == "AwaitingRetry", 20, "its second start")
    for _ in range(2):  # their processes are lost twice more, and the worker says so
        for run in (unstarted, lost):
            client.set_flow_run_state(run, Pending())
        begin(client, lost)
        for run in (unstarted, lost):
            client.set_flow_run_state(run, Crashed(message="exit code -9"))
        wait_for(
            lambda: (
                len(posted) == 6
                or all(state(client, run)[0] == "AwaitingRetry" for run in (unstarted, lost))
            ),
            40,
            "new starts",
        )
    wait_for(lambda: len(posted) == 6, 30, "all messages")
    wait_for(lambda: len(mailed) == 6, 10, "all mails")
    assert state(client, lost) == ("GivenUp", "it crashed in 3 starts")
    assert state(client, unstarted) == ("GivenUp", "it never began, in 3 starts")
    assert state(client, foreign)[0] == "Running", "a run of another project"
    assert state(client, cancelled)[0] == "Cancelled", "a run that a person ended"
    later = {post["text"].splitlines()[0] for post in posted[at_once:]}
    assert later == {
        "watched in dev: v3 did not pass",
        "watched in dev: watched crashed and is given up",
        f"watched in dev: no scoring within {SHORT_S / 3600:g} hours",
    }
    rollback = next(mail for mail in mailed if "rolled back" in mail["subject"])
    assert rollback["to"] == "team@here.example"
    text = rollback.get_body(("plain", "html")).get_content()
    assert "complaints from Oslo" in text
    assert "models:/watched/3" in text
