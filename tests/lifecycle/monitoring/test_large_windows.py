"""Windows larger than what is compared: a sample of the rows, read here or by Ray Data."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import DataError
from lifecycle.lake.write import write_version
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.monitoring.scored import open_window
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import answers, released, scored
from tests.support.small import small_frame

SAMPLE = 300


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.monitoring.scored.MAX_ROWS", SAMPLE)
    monkeypatch.setattr("lifecycle.lake.stretches.STRETCH", 250)


def test_an_even_sample_is_opened_and_always_the_same(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project, frame = make_project(), small_frame(2000)
    window = scored(settings, frame, 1)
    opened = open_window(window, project)
    rows = len(opened.features)
    assert abs(rows - SAMPLE) < 4 * np.sqrt(SAMPLE), "beyond four standard deviations"
    chosen = frame.loc[frame["customer"].isin(opened.entity)]
    assert len(chosen) < 2 * rows, "rows of one customer are chosen apart"
    pd.testing.assert_series_equal(
        pd.Series(opened.prediction),
        pd.Series(answers(opened.features)),
        check_exact=True,
    )
    again = open_window(window, project)
    pd.testing.assert_frame_equal(opened.features, again.features)

    short = write_version(
        pd.DataFrame({"row": np.arange(1000), "prediction": answers(frame[:1000])}),
        f"{settings.home}/short",
        note={},
    )
    other = window.model_copy(update={"predictions": short})
    with pytest.raises(DataError, match=rf"predictions, which are not those of the {rows} rows"):
        open_window(other, project)


@pytest.mark.system
@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_ray_data_finds_the_same_to_the_digit(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project, frame = make_project(), small_frame(1600)
    reference = scored(settings, frame[:800], 1)
    window = scored(settings, frame[800:].assign(city="Lima"), 2)
    at_release = released(project, frame[:800])
    here = monitor_windows(project, settings, reference, [window], at_release)
    scoring = project.scoring.model_copy(update={"ray_data_above_rows": 500})
    large = project.model_copy(update={"scoring": scoring})
    joined = settings.model_copy(update={"ray_address": "connected"})
    there = monitor_windows(large, joined, reference, [window], at_release)
    assert here.drift[0].current_rows < 400
    assert [alarm.cause for alarm in there.alarms]
    assert there == here.model_copy(update={"report": there.report})
