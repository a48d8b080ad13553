"""end_to_end: the whole cycle on the periods as they arrive, ending with a summary."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("end_to_end")

from flows.command import Command
from flows.monitor import monitor
from flows.prepare import prepare
from flows.release import release
from flows.retrain import retrain
from flows.score import score
from flows.train import train
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Cycle, Period
from lifecycle.settings import Settings
from tasks.cluster import ray_cluster
from tasks.data import arriving_windows
from tasks.quality import require_champion, summarise
from tasks.release import require_name, require_port
from tasks.runs import flow


@flow(flow_run_name="end-to-end-{project.name}", is_exclusive=True)
def end_to_end(project: ProjectFile, env: Environment | None = None) -> Cycle:
    """Prepare → train → release, then for each period that arrives: score → monitor → retrain.

    In a project without `time.arrives_from` nothing arrives later. A first model that the gate
    refuses ends the cycle with the summary, and with an error.
    """
    settings = Settings.load(env)
    require_port(settings)
    require_name(project, settings)
    with ray_cluster(settings):
        prepared = prepare(project, env)
        trained = train(project, env, prepared=prepared)
        first = release(project, env, trained)
        periods: list[Period] = []
        scored = []
        for window in arriving_windows(project, settings) if first.champion else ():
            scored.append(score(project, env, window))
            monitored = monitor(project, env, scored[-project.monitoring.windows - 1 :])
            retrained = retrain(project, env, monitored)
            periods.append(Period(scored=scored[-1], monitored=monitored, release=retrained))
        cycle = summarise(project, settings, prepared, trained, first, periods)
        require_champion(project, first)
        return cycle


command = Command(end_to_end, cluster=True)
