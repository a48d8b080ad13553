"""monitor: current windows against the reference window → drift, quality → decision."""

if __name__ == "__main__":
    from flows.command import run_flow

    run_flow("monitor")

from flows.command import Command
from flows.score import score
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Monitored, Scored
from lifecycle.settings import Environment, Settings
from tasks.data import latest_windows
from tasks.monitoring import monitor_windows
from tasks.release import current_champion
from tasks.runs import flow


@flow(flow_run_name="monitor-{project.name}")
def monitor(
    project: ProjectFile, env: Environment | None = None, scored: list[Scored] | None = None
) -> Monitored:
    """Compare scored windows with what the champion was released on, and decide on retraining.

    Without `scored`: the latest `monitoring.windows` periods and the one before them, scored first.
    """
    settings = Settings.load(env)
    champion = current_champion(project, settings)
    if scored is None:
        scored = [score(project, env, window) for window in latest_windows(project, settings)]
    # predictions of a former champion say nothing about this one
    scored = [s if s.model == champion.model else score(project, env, s.window) for s in scored]
    return monitor_windows(project, settings, champion, scored)


command = Command(monitor)
