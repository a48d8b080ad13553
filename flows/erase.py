"""erase: find → erase → prove → list the models that learned → train those anew."""

from flows.command import script
from flows.prepare import prepare
from flows.release import release
from flows.train import train
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Erasure
from lifecycle.runtime.process import end_process
from lifecycle.settings import Environment, Settings
from tasks.governance import (
    erase_persons,
    learned,
    pending_requests,
    require_proof,
    window_of_all,
)
from tasks.runs import flow


@flow(flow_run_name="erase-{project.name}", alone=True)
def erase(
    project: ProjectFile, env: Environment | None = None, retrain: bool = False
) -> list[Erasure]:
    """Carry out the pending requests for erasure; fails where a search finds something left.

    Whom to erase is not a parameter: Prefect keeps those. `lifecycle erase --later` files a
    request, and so does `--entity` of this file run as a script. With `retrain`, a new model is
    trained on what is left and released, if one had learned from the erased.
    """
    settings = Settings.load(env)
    done = [erase_persons(project, settings, name) for name in pending_requests(project, settings)]
    if retrain and learned(done):
        window = window_of_all(project, settings)
        release(project, env, train(project, env, prepared=prepare(project, env, window)))
    require_proof(done)
    return done


if __name__ == "__main__":
    end_process(script(erase))
