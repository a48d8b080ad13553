"""Plots of a search come from its trials alone and leave pyplot as it was."""

import matplotlib
import pytest
from matplotlib import pyplot

from lifecycle.records import Trial, Tuned
from lifecycle.training.tuning.search_plots import as_png, search_plots

SPACE = {
    "eta": {"type": "float", "low": 0.02, "high": 0.5, "log": True},
    "max_depth": {"type": "int", "low": 1, "high": 12},
    "grow_policy": {"type": "choice", "values": ["depthwise", "lossguide"]},
}


@pytest.fixture
def project(make_project):
    return make_project(tuning={"space": SPACE}, training={"metric": "roc_auc"})


def tuned(trials: int, **same: object) -> Tuned:
    """Every fourth trial is pruned; eta alone matters."""
    history = []
    for number in range(trials):
        eta = 0.03 + (number * 7 % 40) / 100
        parameters = {
            "eta": eta,
            "max_depth": 1 + number * 5 % 12,
            "grow_policy": ("depthwise", "lossguide")[number % 2],
            "gamma": 0.0,  # the project's own, in no space
        } | same
        pruned = number % 4 == 3
        history.append(
            Trial(
                number=number,
                state="pruned" if pruned else "complete",
                value=None if pruned else 1 - abs(eta - 0.2),
                parameters=parameters,
                seconds=1.0,
                rounds=10,
            )
        )
    return Tuned(parameters=history[0].parameters, value=1.0, trials=trials, history=tuple(history))


def test_history_importances_and_slices(project):
    style = dict(matplotlib.rcParams)
    figures = search_plots(project, tuned(24))
    assert set(figures) == {"tuning_history", "tuning_importances", "tuning_slices"}
    assert all(as_png(figure).startswith(b"\x89PNG") for figure in figures.values())
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == style
    assert figures["tuning_history"].axes[0].get_ylabel() == "roc_auc"
    points = figures["tuning_history"].axes[0].collections[0].get_offsets()
    assert len(points) == 18  # the pruned ones have no value to show
    names = [text.get_text() for text in figures["tuning_importances"].axes[0].get_yticklabels()]
    assert set(names) == set(SPACE)
    assert names[-1] == "eta"  # bars are drawn upwards: the largest is on top


def test_other_peoples_figures_stay_open(project):
    mine = pyplot.figure()
    search_plots(project, tuned(8))
    assert pyplot.get_fignums() == [mine.number]
    pyplot.close(mine)


@pytest.mark.parametrize("trials", [0, 1])
def test_nothing_to_draw(project, trials):
    assert (
        search_plots(project, tuned(4).model_copy(update={"history": tuned(4).history[:trials]}))
        == {}
    )


def test_only_what_says_something(project):
    few = tuned(2)
    assert set(search_plots(project, few)) == {"tuning_history"}
    alike = tuned(24, eta=0.1, max_depth=3, grow_policy="depthwise")
    assert set(search_plots(project, alike)) == {"tuning_history"}


def test_own_parameters_outside_the_space_have_a_place_in_the_history_only(project):
    found = tuned(24)
    own = found.history[0].model_copy(update={"parameters": {"eta": 0.9}})
    figures = search_plots(project, found.model_copy(update={"history": (own, *found.history[1:])}))
    assert set(figures) == {"tuning_history", "tuning_importances", "tuning_slices"}
    assert len(figures["tuning_history"].axes[0].collections[0].get_offsets()) == 18


@pytest.mark.parametrize("names", [["eta"], ["eta", "max_depth"], ["grow_policy"]])
def test_spaces_of_any_size_can_be_drawn(make_project, names):
    project = make_project(tuning={"space": {name: SPACE[name] for name in names}})
    figures = search_plots(project, tuned(24))
    assert {"tuning_history", "tuning_slices"} <= set(figures)
    assert all(as_png(figure).startswith(b"\x89PNG") for figure in figures.values())
