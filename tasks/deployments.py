"""Deploying every flow of `prefect.yaml` to one environment, for one project: `make deploy`.

`prefect deploy` creates and updates what the file declares, with the variables that are set here.
What an earlier deploy of the same environment and project made and the file no longer declares is
removed. Both may be repeated, and resumed after a kill.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from dotenv import dotenv_values
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.utilities.templating import PlaceholderType, find_placeholders

from lifecycle.environments import DEV, environment_file, environment_help, environments
from lifecycle.errors import BackendError, LifecycleError, ProjectError, SettingsError
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.redaction import redact
from lifecycle.runtime.console import open_console, write_error
from lifecycle.runtime.process import prepare_process
from lifecycle.settings import Settings
from tasks.automations import Outcome, Watch, declare, find_blocks, keep_automations, prefix_of
from tasks.events import Event, send_deployed
from tasks.services import require_prefect

FILE = Path("prefect.yaml")
HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
DEFAULT_HEARTBEAT_S = "30"
EXPECTED = {
    "flows.score.score": ("scoring", Event.SCORING_FINISHED),
    "flows.monitor.monitor": ("monitoring", Event.MONITORING_FINISHED),
}
"""Entrypoints that are missed if their schedule runs none, and what each sends at its end."""
RETRAIN = "flows.retrain.retrain"
PAGE = 200
"""Deployments that a Prefect server returns at once."""
NOTED = ("created", "updated", "updated_by", "last_polled", "status", "version_id", "version_info")
"""What a Prefect server notes of a deployment at each deploy, though it stays as it was."""
MAX_LINES_SHOWN = 5
"""Last lines of `prefect deploy` that are shown when it fails."""
NO_REASON = "An exception occurred."
NO_MESSAGE = (" ", "Traceback", "╰", "│")
"""Beginnings of the lines that come before the message of an error."""


@dataclass(frozen=True)
class Target:
    """One project in one environment: what a deploy creates, updates and removes."""

    settings: Settings
    project: str
    """Name of the project."""
    name: str
    """Name of the deployments, behind the name of the flow: `train/NAME`."""
    variables: dict[str, str]
    """Values of the variables that `prefect.yaml` uses."""
    asks: bool = False
    """Whether the project declares what asks for retraining."""

    @property
    def env(self) -> str:
        """Name of the environment."""
        return self.settings.env

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that all deployments of this target have, and no other."""
        return ("lifecycle", self.env, f"project:{self.project}")


@dataclass(frozen=True)
class Change:
    """Outcomes of a deploy, by name, such as `train/staging`."""

    deployed: dict[str, Outcome]
    """Deployments that the file declares, in its order."""
    removed: tuple[str, ...]
    """Deployments that the file no longer declares."""
    unscheduled: tuple[str, ...]
    """Deployments that lost a schedule, with its slug."""
    automations: dict[str, Outcome]
    """Automations of the environment and project."""

    @property
    def lines(self) -> list[str]:
        """One line for each name."""
        return [
            *(f"{outcome:<10} {name}" for name, outcome in self.deployed.items()),
            *(f"removed    {name}" for name in self.removed),
            *(f"removed    schedule {name}" for name in self.unscheduled),
            *(f"{outcome:<10} automation {name}" for name, outcome in self.automations.items()),
        ]


def find_target(env: str, project: str | None = None) -> Target:
    """The target of a deploy, from an environment's file and the variables that win over it.

    The project that the file names has deployments called as the environment is, `train/staging`.
    Any other has its name in theirs, `train/staging-bike_sharing`.

    Args:
        project: file of the project; by default `LIFECYCLE_PROJECT`.

    Raises:
        SettingsError: no such environment, a setting that is wrong or missing, or a name that
            another environment has.
        ProjectError: the project's file cannot be read.
    """
    settings = Settings.load(env)
    file = environment_file(env)
    written = {k: v for k, v in dotenv_values(file).items() if v} if file else {}
    values = written | {name: value for name, value in os.environ.items() if value}
    path = project or values.get("LIFECYCLE_PROJECT", "")
    if not path:
        raise _unset("LIFECYCLE_PROJECT", env)
    workspace = values.get("LIFECYCLE_WORKSPACE", "")
    loaded = _load(path, workspace)
    name = loaded.name
    deployment = env
    if name != _name_of_first(written.get("LIFECYCLE_PROJECT"), path, name, workspace):
        deployment = f"{env}-{name}"
        if deployment in environments():
            raise SettingsError(
                f"the deployments of {name} in {env} would be called {deployment!r}, as those of "
                f"the environment deployments/{deployment}.env: rename that file"
            )
    derived = {
        "LIFECYCLE_ENV": env,
        "LIFECYCLE_PROJECT": path,
        "LIFECYCLE_PROJECT_NAME": name,
        "LIFECYCLE_DEPLOYMENT": deployment,
        "LIFECYCLE_TIMEZONE": settings.timezone,
        "LIFECYCLE_SCHEDULES": _switch(settings.are_schedules_active),
        "LIFECYCLE_LIVE": _switch(settings.are_schedules_active and loaded.monitoring.live),
        HEARTBEAT: os.environ.get(HEARTBEAT) or DEFAULT_HEARTBEAT_S,
    }
    return Target(settings, name, deployment, values | derived, loaded.retraining.asks)


def _switch(is_on: object) -> str:
    return "on" if is_on else "off"


def _name_of_first(first: str | None, path: str, name: str, workspace: str) -> str | None:
    """Name of the project that the environment's file names; None if it cannot be read."""
    if first in (None, path):
        return name
    try:
        return _load(first, workspace).name
    except ProjectError:
        return None


def _load(path: str, workspace: str) -> Project:
    """A project; its file is looked for in the workspace, then in the working folder."""
    place = Path(workspace, path)
    return load_project(place if place.is_file() else path)


def _unset(variable: str, env: str) -> SettingsError:
    return SettingsError(
        f"{variable} is not set: set it in deployments/{env}.env or in the environment"
    )


def read_declarations(target: Target, file: Path = FILE) -> list[dict[str, Any]]:
    """The deployments that the file declares, as written there.

    Raises:
        SettingsError: the file is missing or no YAML, or it uses a variable that is not set.
    """
    try:
        declared = yaml.safe_load(file.read_text(encoding="utf-8"))
        deployments = [entry for entry in declared["deployments"] if entry["entrypoint"]]
        placeholders = find_placeholders(deployments)
    except OSError as error:
        raise SettingsError(
            f"{file.absolute()}: cannot read it ({error.strerror}); deploy from the folder that "
            "has it, or copy the checkout's there"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise SettingsError(f"{file.absolute()}: not a file of deployments: {reason}") from None
    for placeholder in sorted(placeholders, key=lambda placeholder: placeholder.name):
        variable = placeholder.name.removeprefix("$")
        if placeholder.type is PlaceholderType.ENV_VAR and not target.variables.get(variable):
            raise _unset(variable, target.env)
    return deployments


def deploy(target: Target, declared: list[dict[str, Any]]) -> Change:
    """Create and update what is declared, and remove what an earlier deploy left.

    Args:
        declared: what `read_declarations` found; an empty list removes all.

    Raises:
        SettingsError: the work pool is missing.
        BackendError: `prefect deploy` failed; has its message.
    """
    slugs: dict[str, set[str]] = {}
    for entry in declared:
        schedules = entry.get("schedules") or ()
        slugs.setdefault(entry["entrypoint"], set()).update(s.get("slug", "") for s in schedules)
    with get_client(sync_client=True) as client:
        automations: list[AutomationCore] = []
        before = _contents(client, target)
        if declared:
            _require_pool(client, f"lifecycle-{target.env}")
            scheduled = {entrypoint for entrypoint in slugs if slugs[entrypoint]}
            watch = _watch(client, target, scheduled)
            _prefect_deploy(target)
            if RETRAIN in slugs:
                watch = replace(watch, retraining=_retraining(client, target))
            automations = declare(watch)
        removed, unscheduled = _remove_undeclared(client, target, slugs)
        changes = keep_automations(client, prefix_of(target.env, target.project), automations)
        after = _contents(client, target)
    if declared:
        send_deployed(target.project, target.settings)
    outcomes: dict[str, Outcome] = {}
    for entrypoint in slugs:
        name = f"{_flow_of(entrypoint)}/{target.name}"
        is_equal = before.get(name) == after.get(name)
        outcomes[name] = "made" if name not in before else "unchanged" if is_equal else "changed"
    return Change(outcomes, removed, unscheduled, changes)


def _contents(client: SyncPrefectClient, target: Target) -> dict[str, dict[str, Any]]:
    """What each deployment of the target says, by name, without what the server notes of it."""
    schedules = {"__all__": {"id", "created", "updated"}}
    return {
        f"{_flow_of(each.entrypoint)}/{each.name}": each.model_dump(
            exclude={**dict.fromkeys(NOTED, True), "schedules": schedules}
        )
        for each in _deployed(client, target)
    }


def _remove_undeclared(
    client: SyncPrefectClient, target: Target, slugs: Mapping[str, set[str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remove deployments of the target and schedules that are not declared; returns their names.

    Args:
        slugs: of the schedules that are declared, by entrypoint.
    """
    removed, unscheduled = [], []
    for deployment in _deployed(client, target):
        name = f"{_flow_of(deployment.entrypoint)}/{deployment.name}"
        declared = slugs.get(deployment.entrypoint or "")
        if deployment.name != target.name or declared is None:
            client.delete_deployment(deployment.id)
            removed.append(name)
            continue
        for slug, schedule in _schedules(deployment):
            if slug not in declared:
                client.delete_deployment_schedule(deployment.id, schedule)
                unscheduled.append(f"{name} {slug}")
    return tuple(removed), tuple(unscheduled)


def _watch(client: SyncPrefectClient, target: Target, scheduled: set[str]) -> Watch:
    settings = target.settings
    active = scheduled if settings.are_schedules_active else set()
    return Watch(
        env=settings.env,
        project=target.project,
        tags=target.tags,
        blocks=find_blocks(client, settings),
        expected=dict(expected for name, expected in EXPECTED.items() if name in active),
        heartbeat_s=float(target.variables[HEARTBEAT]),
        silence=timedelta(hours=settings.silence_hours),
        quiet=settings.quiet,
    )


def _retraining(client: SyncPrefectClient, target: Target) -> UUID | None:
    """The deployment that monitoring starts; None where the project or the environment wants none.

    Where schedules are off, nothing is to start by itself.
    """
    if not (target.asks and target.settings.are_schedules_active):
        return None
    deployed = _deployed(client, target)
    return next((each.id for each in deployed if each.entrypoint == RETRAIN), None)


def _flow_of(entrypoint: str | None) -> str:
    """Name of the flow of an entrypoint, as Prefect makes it from the function's."""
    return (entrypoint or "").rpartition(".")[2].replace("_", "-")


def _schedules(deployment: DeploymentResponse) -> Iterator[tuple[str, UUID]]:
    """Slugs and ids of the schedules that a file declared: those of the UI have no slug."""
    for schedule in deployment.schedules:
        if schedule.slug:
            yield schedule.slug, schedule.id


def _require_pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        raise SettingsError(
            f"the Prefect server has no work pool {name}: "
            f"`prefect work-pool create {name} --type process`, then deploy again"
        ) from None


def _prefect_deploy(target: Target) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        env=os.environ
        | get_current_settings().to_environment_variables(exclude_unset=True)
        | target.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode:
        raise BackendError(f"prefect deploy failed: {redact(_error_of(process.stdout))}")


def _error_of(output: str) -> str:
    """Message of a failed `prefect deploy`: its last lines, without the places of a traceback."""
    lines = [line for line in output.splitlines() if line.strip() and line != NO_REASON]
    message = takewhile(lambda line: not line.startswith(NO_MESSAGE), reversed(lines))
    return " ".join(list(islice(message, MAX_LINES_SHOWN))[::-1])


def _deployed(client: SyncPrefectClient, target: Target) -> list[DeploymentResponse]:
    """Deployments on the server that an earlier or this deploy of the target made."""
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=list(target.tags)))
    deployments: list[DeploymentResponse] = []
    while page := client.read_deployments(
        deployment_filter=tagged, limit=PAGE, offset=len(deployments)
    ):
        deployments += page
    return deployments


def main(arguments: list[str] | None = None) -> None:
    """Deploy a project to an environment, and say what changed.

    Raises:
        SystemExit: with 2, something is wrong that the user can mend; one message says what.
    """
    prepare_process()
    parser = argparse.ArgumentParser(prog="python -m tasks.deployments", description=__doc__)
    parser.add_argument("--env", help=environment_help())
    parser.add_argument("--project", help="project file; by default LIFECYCLE_PROJECT")
    parser.add_argument("--remove", action="store_true", help="remove all that was deployed")
    options = parser.parse_args(arguments)
    try:
        require_prefect(is_needed=True)
        env = options.env or os.environ.get("LIFECYCLE_ENV") or DEV
        target = find_target(env, options.project)
        declared = [] if options.remove else read_declarations(target)
        change = deploy(target, declared)
    except LifecycleError as error:
        write_error(str(error))
        sys.exit(2)
    console = open_console()
    schedules = "active" if target.variables["LIFECYCLE_SCHEDULES"] == "on" else "inactive"
    if change.deployed:
        console.print(f"{target.project} in {env}; schedules are {schedules}")
    for line in change.lines:
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    main()
