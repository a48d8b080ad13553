"""erase: find → erase → prove → list the models that learned → train those anew."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("erase")

from argparse import Namespace
from pathlib import Path

from flows.command import REASON, Command, Option
from flows.prepare import prepare
from flows.release import release
from flows.train import train
from lifecycle.environments import Environment
from lifecycle.project import Project
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Erasure
from lifecycle.settings import Settings
from tasks.governance import (
    erase_persons,
    file_request,
    learned,
    pending_requests,
    require_proof,
    window_of_all,
)
from tasks.runs import flow


@flow(flow_run_name="erase-{project.name}", is_exclusive=True)
def erase(
    project: ProjectFile, env: Environment | None = None, retrain: bool = False
) -> list[Erasure]:
    """Carry out the pending requests for erasure; fails where a search finds something left.

    Whom to erase is not a parameter: Prefect keeps those. `lifecycle erase --later` files a
    request, and so does `lifecycle run erase --entity`. With `retrain`, a new model is trained on
    what is left and released, if one had learned from the erased.
    """
    settings = Settings.load(env)
    erasures = [
        erase_persons(project, settings, name) for name in pending_requests(project, settings)
    ]
    if retrain and learned(erasures):
        window = window_of_all(project, settings)
        release(project, env, train(project, env, prepared=prepare(project, env, window)))
    require_proof(erasures)
    return erasures


def _file_request(options: Namespace, project: Project, settings: Settings) -> None:
    """File the request of the command line: Prefect keeps parameters, and must not keep persons."""
    persons = options.entity, options.entities_file
    file_request(project, settings, *persons, options.reason, options.value)


PERSONS = (
    Option("--entity", action="append", default=[], help="person to erase; may be repeated"),
    Option("--entities-file", type=Path, help="a file with one person per line"),
    Option("--value", action="append", default=[], help="other personal data, such as an email"),
)
RETRAIN = Option(
    "--retrain",
    action="store_true",
    help="train and release again if a model was trained on their rows",
)
command = Command(
    erase,
    (*PERSONS, REASON, RETRAIN),
    lambda options: {"retrain": options.retrain},
    before=_file_request,
)
