"""prepare: ingest → validate → join feature views → split."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("prepare")

from flows.command import WINDOW, Command, window_argument
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Prepared, Window
from lifecycle.settings import Settings
from tasks.data import ingest_window, split_parts, with_views
from tasks.runs import flow


@flow(flow_run_name="prepare-{project.name}", is_exclusive=True)
def prepare(
    project: ProjectFile, env: Environment | None = None, window: Window | None = None
) -> Prepared:
    """Read the source, keep what the contract accepts as a new version, and split it.

    Without a window: everything before `time.arrives_from`, which is what the first model learns.
    """
    settings = Settings.load(env)
    ingested = with_views(project, settings, ingest_window(project, settings, window))
    return Prepared(ingested=ingested, split=split_parts(project, settings, ingested))


command = Command(prepare, WINDOW, window_argument, registry=False)
