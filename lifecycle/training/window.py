"""The training window: from which period on rows are learned from, chosen on the validation part.

After a change in the world, rows from before it may teach what holds no more; without them, fewer
are left. Which weighs more is measured: each window's model answers the same validation rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from lifecycle.data.split import check_target, training_periods, without_earlier
from lifecycle.data.split_parts import Periods, starts_of
from lifecycle.errors import BackendError, TargetError
from lifecycle.lake.read import read_version
from lifecycle.project import Project, TimeSpec, WindowKind
from lifecycle.records import Split, Trained, TrainingWindow, Tuned, WindowChoice
from lifecycle.settings import Settings
from lifecycle.training.evaluation.assess import Answers, answer, gain, score
from lifecycle.training.fit import fit

FEWEST_ROWS = 100
"""A window with fewer rows is none."""
NAMES = {
    "all": "all rows",
    "rolling": "as long a stretch as the champion learned from",
    "change": "the rows since the change",
}

OnWindow = Callable[[TrainingWindow], None]


def choose_window(
    project: Project,
    settings: Settings,
    split: Split,
    champion: Trained,
    change: str,
    on_window: OnWindow,
) -> WindowChoice:
    """Choose the rows to learn from; Ray is connected where training needs it.

    Models of the declared parameters are compared. All rows are learned from unless the model of
    another window is better on the validation part by more than chance, with `gate.confidence`.

    Args:
        champion: `rolling` is as long as its training part.
        change: time of the change that monitoring found, ISO 8601 or a whole number; empty where
            it found none.
        on_window: called with each window that was measured.

    Raises:
        TrainingError, FeatureError, ProjectError: training could not be done.
        BackendError: the lake cannot be read or written.
    """
    periods = training_periods(project, split.train)
    first_periods = _first_periods(project, periods, champion, change) if periods else {}
    if not periods or not first_periods:
        return WindowChoice(split=split, windows=(), reason="")
    reference = _answers(project, settings, split, champion)
    every = TrainingWindow(
        kind="all",
        first=periods.name(0),
        rows=split.train.rows,
        value=score(project, reference),
        gain=None,
    )
    on_window(every)
    splits, windows = {"all": split}, [every]
    for kind, first in first_periods.items():
        part = without_earlier(project, settings, split, periods, first)
        if not _can_be_learned(project, part):
            continue
        answers = _answers(project, settings, part, champion)
        window = TrainingWindow(
            kind=kind,
            first=periods.name(first),
            rows=part.train.rows,
            value=score(project, answers),
            gain=gain(project, answers, reference, project.gate.confidence),
        )
        on_window(window)
        splits[kind] = part
        windows.append(window)
    best = max(windows, key=lambda window: window.gain.least if window.gain else 0.0)
    return WindowChoice(
        split=splits[best.kind], windows=tuple(windows), reason=_reason(project, best, windows)
    )


def _first_periods(
    project: Project, periods: Periods, champion: Trained, change: str
) -> dict[WindowKind, int]:
    """Windows other than all rows, and the number of the first period of each."""
    firsts: dict[WindowKind, int] = {}
    for kind in project.retraining.windows:
        first = 0
        if kind == "rolling":
            first = _rolling(project, periods, champion)
        elif change and project.time:
            first = _change_number(periods, change, project.time)
        is_other = first > 0 and first not in firsts.values()
        if is_other and periods.since(first).sum() >= FEWEST_ROWS:
            firsts[kind] = first
    return firsts


def _rolling(project: Project, periods: Periods, champion: Trained) -> int:
    """Number of the first period of as long a stretch as the champion's."""
    try:
        former = training_periods(project, champion.split.train)
    except BackendError:  # retention has taken its rows
        return 0
    if former is None or not len(former):
        return 0
    length = former.start(len(former) - 1) - former.start(0)
    start = periods.start(len(periods) - 1) - length
    first = periods.number(start)
    # months differ in length: the one that holds the start is in the stretch
    return first - 1 if first > 0 and periods.start(first) > start else first


def _change_number(periods: Periods, change: str, spec: TimeSpec) -> int:
    """Number of the period that a change lies in, or of the next one."""
    try:
        if not isinstance(periods.start(0), np.datetime64):
            return periods.number(int(float(change)))
        moment = pd.Timestamp(change)
    except ValueError:  # the log has times of its own, whatever the project's are
        return 0
    moment = moment.tz_convert(None) if moment.tzinfo else moment
    return periods.number(starts_of(pd.Series([moment]), spec)[0])


def _can_be_learned(project: Project, split: Split) -> bool:
    target = read_version(split.train, [project.target])[project.target]
    try:
        check_target(target, project, "the training window")
    except TargetError:  # of one class only, say
        return False
    return True


def _answers(project: Project, settings: Settings, split: Split, champion: Trained) -> Answers:
    """Answers to the validation part of a model that is kept nowhere.

    It does not learn from that part in the end, as `training.refit` would have it.
    """
    training = project.training.model_copy(update={"refit": False})
    other = project.model_copy(update={"training": training})
    tuned = Tuned(parameters=dict(training.parameters), value=None, trials=0)
    with TemporaryDirectory(prefix="lifecycle-window-") as folder:
        bundle = fit(other, split, tuned, settings, champion.identity, Path(folder))
        return answer(other, split.validation, bundle.path, bundle.digest)


def _reason(project: Project, best: TrainingWindow, windows: Sequence[TrainingWindow]) -> str:
    """The choice in words, with the metric of each window on the validation part."""
    each = "; ".join(
        f"{NAMES[window.kind]} ({window.rows:,} from {window.first}): {window.value:.4g}"
        for window in windows
    )
    verdict = (
        "better by more than chance" if best.kind != "all" else "no other is better beyond chance"
    )
    return f"Learned from {NAMES[best.kind]}, {verdict}. {project.metric} on validation: {each}."
