"""retention: delete what is older than the contract allows."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("retention")

from flows.command import Command
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Retained
from lifecycle.settings import Settings
from tasks.governance import delete_expired
from tasks.runs import flow


@flow(flow_run_name="retention-{project.name}", is_exclusive=True)
def retention(project: ProjectFile, env: Environment | None = None) -> Retained:
    """Delete dataset versions, quarantined rows and logged predictions past their time.

    What champion and challenger were made from stays.
    """
    return delete_expired(project, Settings.load(env))


command = Command(retention)
