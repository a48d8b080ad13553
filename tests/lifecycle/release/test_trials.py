"""The trials of a search are runs below the model's run, once each, whatever was interrupted."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.project import Project
from lifecycle.records import Trial, Tuned
from lifecycle.release.mlflow_run import CURVE_POINTS, METRIC, NUMBER, PARENT, STATE, log_search
from lifecycle.release.mlflow_store import connect
from lifecycle.release.register import register
from lifecycle.training.tuning import TrialOutcome
from lifecycle.training.tuning.study import PendingTrial, Suggestions, open_study, study_folder

pytestmark = pytest.mark.component

SPACE = {"eta": {"type": "float", "low": 0.02, "high": 0.5}}
ROUNDS = 3 * CURVE_POINTS - 1


def trial(number: int, rounds: int = ROUNDS) -> Trial:
    pruned = number == 2
    return Trial(
        number=number,
        state="pruned" if pruned else "complete",
        value=None if pruned else 0.5 + number / 100,
        parameters={"eta": 0.1 + number / 100, "max_depth": 3},
        seconds=1.25,
        rounds=rounds,
    )


@pytest.fixture
def searched(make_project: Callable[..., Project], train: Any, settings: Any) -> Any:
    """A trained model whose search left five trials on disk, and what `register` is handed."""
    project = make_project(tuning={"trials": 5, "space": SPACE})
    made = train(project, settings)
    history = tuple(trial(number) for number in range(5))
    tuned = Tuned(parameters=history[4].parameters, value=0.54, trials=5, pruned=1, history=history)
    suggestions = Suggestions(project)
    with open_study(study_folder(settings, project, made.identity), suggestions) as finished:
        for one in history:
            suggested = {"eta": one.parameters["eta"]}
            asked = PendingTrial(one.number, one.parameters, suggested, None)
            scores = tuple(at / 1000 for at in range(ROUNDS))
            finished.keep(asked, TrialOutcome(one.value, scores, {}, one.seconds), 1.0)
    return made, made.trained().model_copy(update={"tuned": tuned})


def register_it(made: Any, trained: Any) -> Any:
    page = made.settings.folder("reports") / "evaluation.html"
    page.write_text("<h1>good</h1>")
    return register(
        made.project,
        made.settings,
        bundle=made.bundle,
        trained=trained,
        plots=(),
        report=page,
    )


def children(made: Any, run_id: str) -> dict[str, Any]:
    client = connect(made.settings)
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'")
    assert len({run.data.tags[NUMBER] for run in found}) == len(found)
    return {run.data.tags[NUMBER]: run for run in found}


def test_every_trial_is_a_run_below_the_models(searched: Any) -> None:
    made, trained = searched
    run_id = register_it(made, trained).model.run_id
    client = connect(made.settings)
    found = children(made, run_id)
    assert set(found) == set("01234")
    for number, run in found.items():
        assert run.info.status == "FINISHED"
        assert run.info.run_name == f"trial {number}"
        assert abs(run.info.end_time - run.info.start_time - 1250) <= 1
        assert run.data.params == {"eta": str(0.1 + int(number) / 100), "max_depth": "3"}
        assert run.data.metrics["rounds"] == ROUNDS
    assert found["4"].data.metrics["tuning/validation"] == 0.54
    assert found["4"].data.tags[STATE] == "complete"
    assert found["4"].data.tags[METRIC] == "log_loss"
    assert found["2"].data.tags[STATE] == "pruned"
    assert "tuning/validation" not in found["2"].data.metrics

    curve = client.get_metric_history(found["2"].info.run_id, "curve/validation")
    assert len(curve) == CURVE_POINTS
    assert {point.step: point.value for point in curve} == {
        step: (step - 1) / 1000 for step in range(ROUNDS, 0, -3)
    }
    plots = {file.path for file in client.list_artifacts(run_id, "plots")}
    names = ("history", "importances", "slices")
    assert plots == {f"plots/tuning_{name}.png" for name in names}


def test_killed_and_registered_again(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short between the calls of the third trial: taken up, with nothing there twice."""
    made, trained = searched
    client_class = type(connect(made.settings))
    whole = client_class.log_batch

    def dies(self: Any, run_id: str, *args: Any, **kwargs: Any) -> Any:
        if self.get_run(run_id).data.tags.get(NUMBER) == "2":
            raise KeyboardInterrupt
        return whole(self, run_id, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(client_class, "log_batch", dies)
        with pytest.raises(KeyboardInterrupt):
            register_it(made, trained)

    registered = register_it(made, trained)
    assert registered.model.version == 1
    found = children(made, registered.model.run_id)
    assert {n: run.info.status for n, run in found.items()} == dict.fromkeys("01234", "FINISHED")
    client = connect(made.settings)
    before = {number: run.info.run_id for number, run in found.items()}

    # all of it once more: the same runs, with as many points
    log_search(client, registered.model.run_id, made.project, made.settings, registered)
    again = children(made, registered.model.run_id)
    assert {number: run.info.run_id for number, run in again.items()} == before
    for run in again.values():
        curve = client.get_metric_history(run.info.run_id, "curve/validation")
        assert len(curve) == CURVE_POINTS


def test_elsewhere_trials_are_known_without_their_curves(searched: Any, tmp_path: Any) -> None:
    made, trained = searched
    folder = study_folder(made.settings, made.project, made.identity)
    (folder / "journal.log").unlink()
    run_id = register_it(made, trained).model.run_id
    assert {"tuning/validation", "rounds", "seconds"} == set(
        children(made, run_id)["4"].data.metrics
    )


def test_without_a_search_there_is_nothing_below(small_model: Any) -> None:
    registered = small_model.register()
    assert children(small_model, registered.model.run_id) == {}
