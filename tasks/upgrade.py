"""The endpoint of a rehearsed upgrade: each champion is served on loopback, asked, and ended.

A program: `lifecycle upgrade` runs it with the new interpreter, in an environment whose `home` and
MLflow are copies. It logs no predictions, and so leaves nothing in the lake.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.release.registry import CHAMPION, by_alias
from lifecycle.runtime.cluster import connect_ray
from lifecycle.runtime.console import write_error
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.process import end_process, prepare_process
from lifecycle.serving.deployment import undeploy
from lifecycle.settings import Settings
from lifecycle.upgrade.answers import ServedChampion, ServedChampions
from tasks.rollout import ServeLane


def serve_champions(projects: Sequence[Project], settings: Settings) -> ServedChampions:
    """Serve and ask the champion of each project, one after the other, on one Ray.

    Raises:
        BackendError: Ray or the registry is not there.
        ServingError: an endpoint does not start, or answers otherwise than the offline model.
    """
    served = []
    with connect_ray(settings):
        for project in projects:
            champion = by_alias(project.name, CHAMPION, settings)
            if champion is None:
                served.append(ServedChampion(name=project.name))
                continue
            endpoint = ServeLane(_quiet(project), settings).deploy(champion)
            served.append(
                ServedChampion(
                    name=project.name, version=champion.version, rows=endpoint.smoke_rows
                )
            )
            undeploy(project.name)
    return ServedChampions(champions=tuple(served))


def _quiet(project: Project) -> Project:
    """The project without a log of predictions, and without a limit that a busy machine breaks."""
    changes = {"log_predictions": False, "max_p99_milliseconds": None}
    return project.model_copy(update={"serving": project.serving.model_copy(update=changes)})


def main() -> int:
    """Serve the champions of project files in the environment of this process."""
    prepare_process()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where the result goes")
    parser.add_argument("projects", type=Path, nargs="+")
    options = parser.parse_args()
    try:
        settings = Settings.load()
        projects = [load_project(file, settings.env) for file in options.projects]
        served = serve_champions(projects, settings)
    except LifecycleError as error:
        write_error(str(error))
        return 2
    write_atomic(options.file, served.model_dump_json(), 0o600)
    return 0


if __name__ == "__main__":
    end_process(main())
