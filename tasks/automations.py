"""Prefect automations of a project in an environment: deployed with it, kept as declared here.

Runs whose process is gone are marked crashed and taken up again, a bounded number of times. People
are told, by notification blocks of the Prefect server, what a stage reports (`tasks.events`), and
what has not happened in time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import (
    ActionTypes,
    ChangeFlowRunState,
    RunDeployment,
    SendNotification,
)
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from lifecycle.errors import SettingsError
from lifecycle.settings import Settings
from tasks.events import HELD_EVENTS, NOT_HELD, ONE_MESSAGE, Event, resource_id

Outcome = Literal["made", "changed", "unchanged", "removed"]
"""What a deploy makes of something that it declares or declared."""
MAX_RUNS = 3
"""How often a run is started in all, when its process is lost again and again."""
STARTED_WITHIN = timedelta(days=1)
"""Starts of a run that never began are counted for so long, from the first on."""
HEARTBEATS = 3
"""A run that missed as many is taken for dead."""
QUIET_STEP = timedelta(hours=1)
"""How exactly the end of quiet hours is met: an event says how many of these are left."""
CANCELLED_WITHIN = timedelta(seconds=15)
"""A cancelled run's process reports a crash first; the cancellation follows within seconds."""
CRASHED = "prefect.flow-run.Crashed"
RETRY, GIVEN_UP = "AwaitingRetry", "GivenUp"
"""Names of the states that a crashed run is brought into."""
STATES_AFTER = (RETRY, GIVEN_UP, "Cancelled", "Pending", "Running")
"""A run that comes into one of these has been seen to."""
NEVER = "lifecycle.notice.withdrawn"
"""An event that nobody sends: what expects it falls due when its time is over."""
ASKED_WITHIN = timedelta(hours=1)
"""Requests about one champion in this time start one run; its own guards hold back the next."""
REQUEST = """{
"version": {{ event.payload.model.version }},
"triggers": {{ event.payload.numbers.triggers | tojson }},
"reasons": {{ event.payload.reasons | tojson }}
}"""
"""The request that an event carries, as the flow `retrain` takes it."""
PAGE = 200

SUBJECT = (
    "{{ event.payload.project }} in {{ event.payload.environment }}: {{ event.payload.title }}"
)
BODY = """{{ event.payload.reasons | join("\\n") }}
{{ event.payload.report }}"""


@dataclass(frozen=True)
class Watch:
    """A project in an environment as its automations see it.

    Attributes:
        tags: those of its deployments, and so of their runs.
        blocks: notification blocks that people are told by.
        expected: what a schedule runs, and the event that each sends at its end.
        heartbeat_s: seconds between two signs of life of a run.
        silence: time after which what is expected is missed.
        quiet: length of the quiet hours.
        retraining: the deployment that learns anew when it is asked for; None where nothing asks.
    """

    env: str
    project: str
    tags: Sequence[str]
    blocks: Sequence[UUID]
    expected: dict[str, Event]
    heartbeat_s: float
    silence: timedelta
    quiet: timedelta
    retraining: UUID | None = None

    @property
    def prefix(self) -> str:
        """Beginning of the names of its automations."""
        return prefix_of(self.env, self.project)


def prefix_of(env: str, project: str) -> str:
    """Beginning of the names of a project's automations in an environment, and of no others."""
    return f"lifecycle {project} in {env}: "


def declare(watch: Watch) -> list[AutomationCore]:
    """The automations that should be on the server."""
    declared = [_crashed(watch), _taken_up(watch), _never_began(watch), _given_up(watch)]
    if watch.retraining:
        declared.append(_retraining(watch, watch.retraining))
    if watch.blocks:
        declared += [_notices(watch), *_notices_of_night(watch), *_silent(watch)]
    return declared


def _crashed(watch: Watch) -> AutomationCore:
    return AutomationCore(
        name=f"{watch.prefix}a lost run is marked crashed",
        description=f"A run without {HEARTBEATS} heartbeats has no process any more.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_tagged(watch),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=HEARTBEATS * watch.heartbeat_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"{HEARTBEATS} heartbeats are missing"
            )
        ],
    )


def _retraining(watch: Watch, deployment: UUID) -> AutomationCore:
    request = {"__prefect_kind": "jinja", "template": REQUEST}
    return AutomationCore(
        name=f"{watch.prefix}retraining",
        description="Monitoring asks for it; the run holds itself back as the project declares.",
        trigger=EventTrigger(
            expect={str(Event.RETRAINING_ASKED)},
            match={"prefect.resource.id": resource_id(watch.env, watch.project)},
            # a new champion that fails within the hour must not wait for it to be over
            for_each={"prefect.resource.id", "lifecycle.model-version"},
            posture=Posture.Reactive,
            threshold=1,
            within=ASKED_WITHIN,
        ),
        actions=[
            RunDeployment(
                deployment_id=deployment,
                parameters={"request": {"__prefect_kind": "json", "value": request}},
            )
        ],
    )


def _taken_up(watch: Watch) -> AutomationCore:
    return AutomationCore(
        name=f"{watch.prefix}a crashed run is taken up again",
        description=f"With the same parameters, until it was started {MAX_RUNS} times.",
        trigger=_crash(watch, [str(count) for count in range(MAX_RUNS)]),
        actions=[
            ChangeFlowRunState(state=StateType.SCHEDULED, name=RETRY, message="taken up again")
        ],
    )


def _never_began(watch: Watch) -> AutomationCore:
    """Give up a run that no process could begin: Prefect's count of its starts stays at 0."""
    return AutomationCore(
        name=f"{watch.prefix}a run that never began is given up",
        description=f"It crashed {MAX_RUNS} times before it began, and is not taken up again.",
        trigger=EventTrigger(
            after={CRASHED},  # the first one starts the time and is not counted
            expect={CRASHED},
            match={"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": "0"},
            match_related=_tagged(watch),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=MAX_RUNS - 1,
            within=STARTED_WITHIN,
        ),
        actions=_give_up(watch, f"it never began, in {MAX_RUNS} starts"),
    )


def _given_up(watch: Watch) -> AutomationCore:
    return AutomationCore(
        name=f"{watch.prefix}a crashed run is given up",
        description="It is not taken up again.",
        trigger=_crash(watch, [str(MAX_RUNS)]),
        actions=_give_up(watch, f"it crashed in {MAX_RUNS} starts"),
    )


def _give_up(watch: Watch, reason: str) -> list[ActionTypes]:
    """Name the state, which stays a crash, so that nothing more is done for it; tell people."""
    return [
        # by force: Prefect refuses a crash of a run that has ended
        ChangeFlowRunState(state=StateType.CRASHED, name=GIVEN_UP, message=reason, force=True),
        *_messages(
            watch,
            f"{watch.project} in {watch.env}: {{{{ flow.name }}}} crashed and is given up",
            "{{ flow_run.name }}: {{ event.payload.validated_state.message }}\n"
            "{{ flow_run | ui_url }}",
        ),
    ]


def _crash(watch: Watch, counts: list[str]) -> EventTrigger:
    """A trigger for crashes of runs that were started so many times.

    Engine and worker may both tell of one, a second apart: the window makes them one, and leaves
    out runs that somebody cancels, or that are given up.
    """
    return EventTrigger(
        after={CRASHED},
        expect={f"prefect.flow-run.{state}" for state in STATES_AFTER},
        match={"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": counts},
        match_related=_tagged(watch),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=CANCELLED_WITHIN,
    )


def _tagged(watch: Watch) -> list[Any]:
    """Resources that events of the runs are related to, all of them: the tags."""
    return [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
        for tag in watch.tags
    ]


def _notices(watch: Watch) -> AutomationCore:
    return AutomationCore(
        name=f"{watch.prefix}notices",
        description="What stages report to people: one message per cause and day.",
        trigger=EventTrigger(
            expect={str(event) for event in (*HELD_EVENTS, Event.MODEL_ROLLED_BACK)},
            match=_events_of(watch, NOT_HELD),
            for_each={"lifecycle.cause"},
            posture=Posture.Reactive,
            threshold=1,
            within=ONE_MESSAGE,
        ),
        actions=_messages(watch, SUBJECT, BODY),
    )


def _notices_of_night(watch: Watch) -> Iterator[AutomationCore]:
    """Notices of quiet hours: each event says in how many hours those end."""
    for hour in range(1, -(-watch.quiet // QUIET_STEP) + 1):
        yield AutomationCore(
            name=f"{watch.prefix}notices {hour} h before quiet hours end",
            description="They are sent when quiet hours are over.",
            trigger=EventTrigger(
                after={str(event) for event in HELD_EVENTS},
                expect={NEVER},
                match=_events_of(watch, str(hour)),
                for_each={"lifecycle.cause"},
                posture=Posture.Proactive,
                threshold=1,
                within=hour * QUIET_STEP,
            ),
            actions=_messages(watch, SUBJECT, BODY),
        )


def _events_of(watch: Watch, hours: str) -> dict[str, str | list[str]]:
    return {
        "prefect.resource.id": resource_id(watch.env, watch.project),
        "lifecycle.held": hours,
    }


def _silent(watch: Watch) -> Iterator[AutomationCore]:
    """Yield what misses a stage: counted from its last run that ended well, or from the deploy."""
    hours = watch.silence / timedelta(hours=1)
    for flow, event in watch.expected.items():
        yield AutomationCore(
            name=f"{watch.prefix}no {flow}",
            description=f"No run of {flow} has ended well within {hours:g} hours.",
            trigger=EventTrigger(
                after={str(event), str(Event.PROJECT_DEPLOYED)},
                expect={str(event)},
                match={"prefect.resource.id": resource_id(watch.env, watch.project)},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=watch.silence,
            ),
            actions=_messages(
                watch,
                f"{watch.project} in {watch.env}: no {flow} within {hours:g} hours",
                f"No run of {flow} has ended well. Does a worker run, and what do its runs say?",
            ),
        )


def _messages(watch: Watch, subject: str, body: str) -> list[ActionTypes]:
    return [
        SendNotification(block_document_id=block, subject=subject, body=body)
        for block in watch.blocks
    ]


def find_blocks(client: SyncPrefectClient, settings: Settings) -> list[UUID]:
    """The notification blocks that `LIFECYCLE_NOTIFY` names.

    Raises:
        SettingsError: the Prefect server has no such block.
    """
    ids = []
    for name in settings.notify.split():
        kind, _, block = name.partition("/")
        try:
            document = client.read_block_document_by_name(block, kind, include_secrets=False)
        except ObjectNotFound:
            raise SettingsError(
                f"LIFECYCLE_NOTIFY: the Prefect server has no notification block {name!r}: make it "
                "on Prefect's page or as docs/how-to/notifications.md says, or leave it out"
            ) from None
        ids.append(document.id)
    return ids


def keep_automations(
    client: SyncPrefectClient, prefix: str, declared: Sequence[AutomationCore]
) -> dict[str, Outcome]:
    """Make the automations on the server those that are declared; what is equal stays untouched.

    An automation that somebody paused stays paused.

    Args:
        prefix: beginning of the names of those that may be changed and removed.

    Returns:
        The name of each, and what became of it.
    """
    outcomes: dict[str, Outcome] = {}
    deployed = {a.name: a for a in _automations(client) if a.name.startswith(prefix)}
    for automation in declared:
        former = deployed.pop(automation.name, None)
        outcomes[automation.name] = "made"
        if former is None:
            client.create_automation(automation)
            continue
        target = automation.model_copy(update={"enabled": former.enabled})
        if _content(former) == _content(target):
            outcomes[automation.name] = "unchanged"
        else:
            client.update_automation(former.id, target)
            outcomes[automation.name] = "changed"
    for former in deployed.values():
        client.delete_automation(former.id)
        outcomes[former.name] = "removed"
    return outcomes


def _automations(client: SyncPrefectClient) -> list[Automation]:
    automations: list[Automation] = []
    while page := client.read_automations(limit=PAGE, offset=len(automations)):
        automations += page
    return automations


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What an automation says, without what the server adds; its sets have no order."""
    core = AutomationCore.model_validate(automation.model_dump())
    return core.model_dump(exclude={"owner_resource"})
