"""release: gate challenger against champion → deploy → smoke test → alias `champion`."""

import sys

from prefect import flow

from flows.command import script
from lifecycle.project import ProjectFile
from lifecycle.records import Release, Trained
from lifecycle.settings import Environment, Settings
from tasks.cluster import ray_cluster
from tasks.release import challenge, concluded, current_challenger, require_port, roll_out


@flow(flow_run_name="release-{project.name}")
def release(
    project: ProjectFile, env: Environment | None = None, trained: Trained | None = None
) -> Release:
    """Make the challenger champion if it is better on the same holdout and answers correctly.

    Otherwise the champion goes on serving, and the decision says why. Without `trained` the model
    version with the alias `challenger` is taken.
    """
    settings = Settings.load(env)
    require_port(settings)
    trained = trained or current_challenger(project, settings)
    duel = challenge(project, settings, trained)
    if not duel.decision.passed:
        return concluded(trained, duel, None)
    with ray_cluster(settings):
        return concluded(trained, duel, roll_out(project, settings, trained, duel))


if __name__ == "__main__":
    sys.exit(script(release))
