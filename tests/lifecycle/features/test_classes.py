"""The class that probabilities mean, and column names that a Delta table keeps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lifecycle.features.encode import most_probable, probability_columns
from lifecycle.lake.read import read_version
from lifecycle.lake.write import write_version


@pytest.mark.parametrize(
    ("classes", "expected", "kind"),
    [
        (("b", "a", "long one"), ["a", "long one", "b"], "O"),
        ((10, 5, 7), [5, 7, 10], "i"),
        ((0.5, 1, 2), [1, 2, 0.5], "f"),
    ],
)
def test_the_most_probable_class_in_its_own_type(
    classes: tuple[str | int | float, ...], expected: list[str | int | float], kind: str
) -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2]])
    found = most_probable(probabilities, classes)
    assert found.tolist() == expected
    assert found.dtype.kind == kind


def test_no_rows_have_no_classes() -> None:
    assert most_probable(np.empty((0, 2)), ("a", "b")).tolist() == []


def test_columns_differ_whatever_the_classes_are_called(tmp_path: Path) -> None:
    classes = ("a", "A", "a b", "a,b", "-1", "1", "naïve", "x=y;{z}(1.5)")
    names = probability_columns(classes)
    assert names == (
        "probability_a",
        "probability_A_2",
        "probability_a_b",
        "probability_a_b_2",
        "probability_-1",
        "probability_1",
        "probability_naïve",
        "probability_x_y_z_1_5_",
    )
    frame = pd.DataFrame(np.eye(len(names)), columns=list(names))
    written = write_version(frame, str(tmp_path / "table"), note={})
    pd.testing.assert_frame_equal(read_version(written), frame)
