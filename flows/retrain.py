"""retrain: prepare → train → release, when monitoring asks for it."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("retrain")

from flows.command import WINDOW, Command, Option, window_of
from flows.monitor import monitor
from flows.prepare import prepare
from flows.release import release
from flows.train import train
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Monitored, Release, RetrainingRequest, Window
from lifecycle.settings import Settings
from tasks.data import window_through
from tasks.monitoring import tell_no_retraining
from tasks.release import current_champion
from tasks.retraining import (
    attempt,
    choose_window,
    is_outdated,
    is_sound,
    note_relapse,
    permitted,
    relapse,
    request_of,
)
from tasks.runs import flow


@flow(flow_run_name="retrain-{project.name}", is_exclusive=True)
def retrain(
    project: ProjectFile,
    env: Environment | None = None,
    monitored: Monitored | None = None,
    window: Window | None = None,
    force: bool = False,
    request: RetrainingRequest | None = None,
    unattended: bool = False,
) -> Release | None:
    """Learn from all that has arrived; the new model must beat the champion to replace it.

    Without `monitored`, monitoring runs first. None if nothing asks for it and `force` is off.
    `request` came by an event. `unattended`, as a deployment runs it, it is
    held back: by cooldown, budget, useless tries and broken data; and if measured quality fell soon
    after a release, the version before serves again, which none of these holds back. Where
    LIFECYCLE_APPROVAL says so, what it learned waits for a person.
    """
    settings = Settings.load(env)
    champion = current_champion(project, settings)
    if request and is_outdated(request, champion):
        return None
    if unattended and request and (reason := relapse(project, settings, request)):
        return _take_back(project, env, settings, reason)
    if unattended and not permitted(project, settings):
        return None
    monitored = monitored or monitor(project, env)
    if unattended:
        if not is_sound(project, settings, champion, monitored):
            return None
        request = request or request_of(project, settings, champion, monitored)
    if monitored.decision.passed and not force and not request:
        tell_no_retraining(monitored)
        return None
    if unattended and request and (reason := relapse(project, settings, request)):
        return _take_back(project, env, settings, reason)
    with attempt(project, settings, request, champion, unattended) as running:
        prepared = prepare(project, env, window or window_through(project, settings, monitored))
        if window is None and project.time:
            prepared, running.reason = choose_window(
                project, settings, prepared, champion, monitored
            )
        trained = train(project, env, prepared=prepared)
        running.release = release(project, env, trained, unattended=unattended)
    return running.release


def _take_back(
    project: ProjectFile, env: Environment | None, settings: Settings, reason: str
) -> Release:
    """Let the version before serve again; the try that released this one did not hold."""
    taken_back = release(project, env, rollback=True, reason=reason)
    note_relapse(project, settings, taken_back)
    return taken_back


FORCE = Option(
    "--force",
    action="store_true",
    help="retrain even if monitoring found nothing to do",
)
command = Command(
    retrain,
    (*WINDOW, FORCE),
    lambda options: {"window": window_of(options), "force": options.force},
    cluster=True,
)
