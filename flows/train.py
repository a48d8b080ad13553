"""train: tune → fit → evaluate → check → gate → register as challenger."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("train")

from typing import Annotated

from pydantic import Field

from flows.command import WINDOW, Command, Option, at_least_one, window_of
from flows.prepare import prepare
from lifecycle.environments import Environment
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Candidate, Prepared, Trained, Window
from lifecycle.settings import Settings
from tasks.cluster import ray_for_training, running_cluster
from tasks.evaluation import evaluate_candidate
from tasks.quality import check_candidate, checks_program, gate_candidate
from tasks.release import champion_of, find_trained, register_challenger, require_name
from tasks.runs import flow
from tasks.training import fit_model, identify, measure_noise, recorded, tune_parameters


@flow(flow_run_name="train-{project.name}", is_exclusive=True)
def train(
    project: ProjectFile,
    env: Environment | None = None,
    window: Window | None = None,
    prepared: Prepared | None = None,
    seeds: Annotated[int, Field(ge=1)] | None = None,
) -> Trained:
    """Train a model and register it as challenger; only release, with the same gate, promotes it.

    A model with the same identity is not trained again: it is taken from the registry. With
    `seeds` (by default `gate.seeds`) training is repeated with others, to tell a gain from noise.
    """
    settings = Settings.load(env)
    require_name(project, settings)
    with running_cluster(settings):
        prepared = prepared or prepare(project, env, window)
        split = prepared.split
        identity = identify(project, settings, split)
        seeds = seeds or project.gate.seeds
        if trained := find_trained(project, settings, identity, seeds):
            return trained
        with recorded(project, settings, split, identity), checks_program(settings) as program:
            with ray_for_training(project, settings, split.train.rows):
                tuned = tune_parameters(project, settings, split, identity)
                if project.checks.suites:
                    program.start()  # its imports take seconds: meanwhile the model is fitted
                bundle = fit_model(project, settings, split, tuned, identity)
                champion = champion_of(project, settings)
                evaluated = evaluate_candidate(project, settings, split, bundle, champion)
                noise = None  # one seed says nothing of chance
                if seeds > 1:
                    noise = measure_noise(
                        project, settings, split, tuned, identity, evaluated, seeds
                    )
            checks = check_candidate(project, settings, split, bundle, program)
            decision = gate_candidate(project, evaluated, checks, noise)
            return register_challenger(
                project,
                settings,
                Candidate(
                    identity=identity,
                    split=split,
                    tuned=tuned,
                    bundle=bundle,
                    evaluated=evaluated,
                    checks=checks,
                    decision=decision,
                    noise=noise,
                ),
            )


SEEDS = Option(
    "--seeds",
    type=at_least_one,
    metavar="N",
    help="train with N seeds, to tell a gain from noise; by default gate.seeds",
)
command = Command(
    train,
    (*WINDOW, SEEDS),
    lambda options: {"window": window_of(options), "seeds": options.seeds},
    cluster=True,
)
