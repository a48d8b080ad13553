"""monitor_live: windows over the prediction log against the reference window → drift, quality."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("monitor_live")

from flows.command import Command
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Monitored
from lifecycle.settings import Settings
from tasks.live import monitor_live_windows
from tasks.monitoring import take_labels
from tasks.release import current_champion
from tasks.runs import flow


@flow(flow_run_name="monitor-live-{project.name}")
def monitor_live(project: ProjectFile, env: Environment | None = None) -> list[Monitored]:
    """Compare what the endpoint answered with what the champion was released on.

    Windows of the prediction log that are over since the last run, `monitoring.live` long, and
    those whose labels have come since. Without `monitoring.live` nothing is done.
    """
    settings = Settings.load(env)
    champion = current_champion(project, settings)
    take_labels(project, settings)
    return monitor_live_windows(project, settings, champion)


command = Command(monitor_live)
