"""Few boosting rounds are worth a warning that says why and what to change."""

import pytest

from lifecycle.training.fit import few_rounds


@pytest.mark.parametrize(
    ("parameters", "rounds", "left"),
    [({}, 2, "49%"), ({"eta": 0.05}, 9, "63%"), ({"learning_rate": 0.1}, 1, "90%")],
)
def test_few_rounds_say_what_is_left_unsaid(make_project, parameters, rounds, left):
    project = make_project(training={"rounds": 200})
    (text,) = few_rounds(project, parameters, rounds)
    assert text.startswith(f"Only {rounds} boosting round")
    assert f"leaves {left} of what trees could say unsaid" in text
    assert "log_loss on the validation part was best there; try a smaller learning rate" in text


def test_enough_rounds_or_a_forest_say_nothing(make_project):
    project = make_project(training={"rounds": 200})
    assert few_rounds(project, {}, 10) == ()
    assert few_rounds(project, {"eta": 1.0}, 1) == ()  # one round of many trees


def test_a_limit_of_the_project_file_is_named(make_project):
    (text,) = few_rounds(make_project(training={"rounds": 5}), {}, 5)
    assert text.endswith("training.rounds allows no more; raise it.")
