"""retrain: prepare → train → release, when monitoring asks for it."""

if __name__ == "__main__":
    from flows.command import run_flow

    run_flow("retrain")

from flows.command import WINDOW, Command, Option, window_of
from flows.monitor import monitor
from flows.prepare import prepare
from flows.release import release
from flows.train import train
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Monitored, Release, Window
from lifecycle.settings import Settings
from tasks.data import window_through
from tasks.monitoring import tell_no_retraining
from tasks.runs import flow


@flow(flow_run_name="retrain-{project.name}", is_exclusive=True)
def retrain(
    project: ProjectFile,
    env: Environment | None = None,
    monitored: Monitored | None = None,
    window: Window | None = None,
    force: bool = False,
) -> Release | None:
    """Learn from all that has arrived; the new model must beat the champion to replace it.

    Without `monitored`, monitoring runs first. None if it finds nothing to do and `force` is off.
    """
    monitored = monitored or monitor(project, env)
    if monitored.decision.passed and not force:
        tell_no_retraining(monitored)
        return None
    window = window or window_through(project, Settings.load(env), monitored)
    return release(project, env, train(project, env, prepared=prepare(project, env, window)))


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
