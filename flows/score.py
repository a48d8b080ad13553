"""score: batch inference of a dataset version with the champion."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("score")

from flows.command import WINDOW, Command, window_argument
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Scored, Window
from lifecycle.settings import Settings
from tasks.data import ingest_current, with_views
from tasks.monitoring import score_dataset
from tasks.release import current_champion
from tasks.runs import flow


@flow(flow_run_name="score-{project.name}")
def score(
    project: ProjectFile, env: Environment | None = None, window: Window | None = None
) -> Scored:
    """Predict for a window of the source with the champion, into a versioned table.

    Without a window: the newest period that has arrived, or all rows where there is no time.
    """
    settings = Settings.load(env)
    champion = current_champion(project, settings)
    current = with_views(project, settings, ingest_current(project, settings, window))
    return score_dataset(project, settings, current, champion)


command = Command(score, WINDOW, window_argument)
