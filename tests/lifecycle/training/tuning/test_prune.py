"""Our pruning decides as Optuna's own does, and from nothing but what it was told."""

import numpy as np
import optuna
import pytest

from lifecycle.training.tuning import ReportedTrial, TrialOutcome
from lifecycle.training.tuning.prune import NAME, Judge, pruner_of

ROUNDS = 20
PRUNERS = ["median", "halving", "hyperband"]


def curves(seed: int, trials: int = 40) -> np.ndarray:
    """(trials, rounds): scores that rise to a level of their own, with noise."""
    rng = np.random.default_rng(seed)
    rise = 1 - np.exp(-np.arange(1, ROUNDS + 1) / 5)
    return rng.random((trials, 1)) * rise + rng.normal(0, 0.02, (trials, ROUNDS))


def run(judge: Judge, number: int, curve: np.ndarray) -> TrialOutcome:
    scores: list[float] = []
    marks: dict[str, float] = {}
    for score in curve:
        scores.append(float(score))
        if judge.hopeless(number, scores, marks):
            return TrialOutcome(None, tuple(scores), marks, 0.0)
    return TrialOutcome(scores[-1], tuple(scores), marks, 0.0)


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("maximize", [True, False])
def test_one_after_another_is_optunas_own_study(pruner, maximize):
    given = curves(1) if maximize else -curves(1)

    def objective(trial: optuna.Trial) -> float:
        for at, score in enumerate(given[trial.number], start=1):
            trial.report(float(score), at)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(given[trial.number, -1])

    study = optuna.create_study(
        study_name=NAME,
        direction="maximize" if maximize else "minimize",
        pruner=pruner_of(pruner, ROUNDS),
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    study.optimize(objective, n_trials=len(given))
    judge = Judge(pruner, ROUNDS, maximize)
    for trial in study.trials:
        outcome = run(judge, trial.number, given[trial.number])
        judge.learn([ReportedTrial(trial.number, outcome)])
        assert list(outcome.scores) == list(trial.intermediate_values.values())
        assert (outcome.value is None) == (trial.state == optuna.trial.TrialState.PRUNED)
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
    assert 3 < pruned < len(given) - 1


@pytest.mark.parametrize("pruner", PRUNERS)
def test_what_else_a_judge_has_seen_does_not_matter(pruner):
    """Two actors share 40 trials; each decides as one that runs only the trial in question."""
    given = curves(2)
    shared = [Judge(pruner, ROUNDS, True), Judge(pruner, ROUNDS, True)]
    sent = [0, 0]
    told: list[ReportedTrial] = []
    for number, curve in enumerate(given):
        known = told[: max(0, number - 3)]  # four workers: the last ones are still running
        at = number % 3 % 2
        shared[at].learn(known[sent[at] :])
        sent[at] = len(known)
        alone = Judge(pruner, ROUNDS, True)
        alone.learn(known)
        outcome = run(alone, number, curve)
        assert run(shared[at], number, curve) == outcome
        told.append(ReportedTrial(number, outcome))
    assert 3 < sum(trial.outcome.value is None for trial in told) < len(given) - 1


def test_median_lets_trials_warm_up():
    judge = Judge("median", ROUNDS, True)
    judge.learn(ReportedTrial(n, TrialOutcome(1.0, (1.0,) * ROUNDS, {}, 0.0)) for n in range(5))
    assert len(run(judge, 5, np.zeros(ROUNDS)).scores) == ROUNDS // 5
    assert run(judge, 6, np.ones(ROUNDS)).value == 1.0
