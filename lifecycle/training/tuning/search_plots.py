"""Plots of a search: Optuna's own, made from the trials alone.

Optuna draws with pyplot, whose state is the whole process's: it is held for us while it draws, set
back, and no figure is left open.
"""

import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import matplotlib
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.trial import TrialState
from optuna.visualization.matplotlib import (
    plot_optimization_history,
    plot_param_importances,
    plot_slice,
)

from lifecycle.project import Metric, Project
from lifecycle.records import Trial, Tuned
from lifecycle.training.tuning import TrialOutcome
from lifecycle.training.tuning.study import as_trial, direction_of, place_of, space_of

FEWEST_TRIALS = 4
"""Complete trials from which importances say anything."""
MOST_SLICES = 6
"""Parameters that get a slice, the most important first; more would be too small to read."""
DPI = 80

_pyplot = threading.Lock()


def search_plots(project: Project, tuned: Tuned) -> dict[str, Figure]:
    """Name → figure: `tuning_history`, `tuning_importances`, `tuning_slices`.

    Only those that say something: none without a search, no importances or slices where too few
    trials are complete or all are alike.
    """
    history = history_plot(project, tuned)
    if history is None:
        return {}
    plots = {"tuning_history": history}
    study = study_of(project, tuned.history)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [
        name for name in project.tuning.space if len({t.params.get(name) for t in complete}) > 1
    ]
    if len(complete) < FEWEST_TRIALS or len({trial.value for trial in complete}) < 2 or not varied:
        return plots
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about parameters that few trials have
        shares = optuna.importance.get_param_importances(study, params=varied)
    if sum(shares.values()) > 0:
        plots["tuning_importances"] = _draw(
            plot_param_importances, study, project.training_metric, params=varied
        )
    slices = list(shares)[:MOST_SLICES]
    plots["tuning_slices"] = _draw(plot_slice, study, project.training_metric, params=slices)
    return plots


def history_plot(project: Project, tuned: Tuned) -> Figure | None:
    """The first of `search_plots` alone: the others take a while."""
    study = study_of(project, tuned.history)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2:
        return None
    return _draw(plot_optimization_history, study, project.training_metric)


def study_of(project: Project, history: tuple[Trial, ...]) -> optuna.Study:
    """An Optuna study in memory of the trials that have a place in the search space."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction_of(project))
    space = space_of(project)
    for trial in history:
        place = place_of(project, trial.parameters)
        outcome = TrialOutcome(trial.value, (), {}, trial.seconds)
        study.add_trial(as_trial(place, space, outcome))
    return study


def as_png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()


def _draw(
    plot: Callable[..., Any], study: optuna.Study, metric: Metric, **arguments: object
) -> Figure:
    """Optuna's plot, with its style, which stays out of everybody else's figures."""
    with _pyplot, warnings.catch_warnings(), matplotlib.rc_context():
        # all of optuna.visualization.matplotlib is experimental; nothing is decided by a plot
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # about parameters that few trials have
        if matplotlib.get_backend(auto_select=False) is None:
            matplotlib.use("agg")  # nobody looks at a window of ours
        from matplotlib import pyplot

        before = set(pyplot.get_fignums())
        try:
            axes = plot(study, target_name=metric, **arguments)
        finally:
            for number in set(pyplot.get_fignums()) - before:
                pyplot.close(number)
    first: Axes = axes if isinstance(axes, Axes) else axes.flat[0]
    figure = first.get_figure(root=True)
    assert figure is not None  # noqa: S101 - axes that were just drawn are in one
    if figure.get_layout_engine() is None:  # as Optuna leaves it, long names are cut off
        shared_bar = len(figure.axes) > 2  # which tight cannot place; constrained no single one
        figure.set_layout_engine("constrained" if shared_bar else "tight")
    for axis in figure.axes:
        if axis.get_xscale() == "log":
            axis.xaxis.set_minor_formatter(NullFormatter())  # they would overlap
    return figure
