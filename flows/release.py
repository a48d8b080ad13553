"""release: gate challenger against champion → straight, canary or shadow → alias `champion`."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("release")

from flows.command import REASON, Command, Option
from lifecycle.environments import Environment
from lifecycle.errors import SettingsError
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Release, Trained
from lifecycle.runtime.cluster import is_connected
from lifecycle.settings import Settings
from tasks.cluster import ray_cluster
from tasks.release import challenge, current_challenger, current_champion, is_done, require_port
from tasks.rollout import hold, keep, reject, restore_champion, roll_back, roll_out
from tasks.runs import flow


@flow(flow_run_name="release-{project.name}", is_exclusive=True)
def release(
    project: ProjectFile,
    env: Environment | None = None,
    trained: Trained | None = None,
    rollback: bool = False,
    again: bool = False,
    reason: str = "",
    restore: bool = False,
    unattended: bool = False,
) -> Release:
    """Make the challenger champion if it is better on the same holdout and keeps what it promises.

    Otherwise the champion goes on serving, and the decision says why. Without `trained` the model
    version with the alias `challenger` is taken. `rollback` ends a canary that is under way or
    goes back to the champion before; what was rolled back is released only `again`. `restore` puts
    the champion's endpoint back on a cluster that was started anew, and judges nobody. `reason`
    goes into the audit trail. `unattended`, and where LIFECYCLE_APPROVAL says so, a challenger that
    passes waits for a person, who releases it without that.
    """
    settings = Settings.load(env)
    if restore and rollback:
        raise SettingsError("--restore puts the champion back, --rollback the one before: name one")
    if restore:
        if settings.local_ray and not is_connected():
            raise SettingsError(
                "--restore: LIFECYCLE_RAY_ADDRESS names no cluster, and an endpoint on a Ray of "
                "this command alone would end with it; `lifecycle serve` serves until Ctrl-C"
            )
        with ray_cluster(settings):
            return restore_champion(project, settings, current_champion(project, settings), reason)
    if rollback:
        require_port(settings)
        with ray_cluster(settings):
            return roll_back(project, settings, reason)
    trained = trained or current_challenger(project, settings)
    duel = challenge(project, settings, trained, again)
    if not duel.decision.passed:
        return reject(project, settings, trained, duel)
    if is_done(project, settings, trained, duel):
        return keep(project, settings, trained, duel)
    if unattended and settings.approval == "required":
        return hold(project, settings, trained, duel)
    require_port(settings)
    with ray_cluster(settings):
        return roll_out(project, settings, trained, duel, reason)


ROLLBACK = Option(
    "--rollback",
    action="store_true",
    help="end a canary that is under way, or return to the previous champion",
)
RELEASE_AGAIN = Option(
    "--again",
    action="store_true",
    help="release a version even if it was rolled back",
)
RESTORE = Option(
    "--restore",
    action="store_true",
    help="put the champion's endpoint back on a Ray cluster that was started anew, nothing else",
)
command = Command(
    release,
    (ROLLBACK, RELEASE_AGAIN, REASON, RESTORE),
    lambda options: {
        "rollback": options.rollback,
        "again": options.again,
        "reason": options.reason,
        "restore": options.restore,
    },
    cluster=True,
)
