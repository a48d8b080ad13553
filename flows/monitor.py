"""monitor: current windows against the reference window → drift, quality → decision."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("monitor")

from datetime import datetime

from flows.command import Command, Option
from flows.score import score
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Monitored, Scored
from lifecycle.settings import Settings
from tasks.data import latest_windows
from tasks.monitoring import monitor_windows, take_labels
from tasks.release import current_champion
from tasks.runs import flow


@flow(flow_run_name="monitor-{project.name}")
def monitor(
    project: ProjectFile,
    env: Environment | None = None,
    scored: list[Scored] | None = None,
    as_of: datetime | None = None,
) -> Monitored:
    """Compare scored windows with what the champion was released on, and decide on retraining.

    The latest `monitoring.windows` periods and the one before them are scored first, unless a flow
    brings what it has `scored`. With `as_of`: by the labels that were known then.
    """
    settings = Settings.load(env)
    champion = current_champion(project, settings)
    if scored is None:
        scored = [score(project, env, window) for window in latest_windows(project, settings)]
    # predictions of a former champion say nothing about this one
    scored = [s if s.model == champion.model else score(project, env, s.window) for s in scored]
    if as_of is None:
        take_labels(project, settings)
    return monitor_windows(project, settings, champion, scored, as_of)


command = Command(
    monitor,
    options=(
        Option("--as-of", type=datetime.fromisoformat, help="labels as known then, ISO 8601, UTC"),
    ),
    arguments=lambda options: {"as_of": options.as_of} if options.as_of else {},
)
