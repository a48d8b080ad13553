"""The twin of the demo reads the example that the demo has."""

from benchmarks.bare_cycle import EXAMPLE, YEAR, read, split
from lifecycle.project.loader import load_project


def test_the_twin_learns_from_what_the_first_model_of_the_demo_learns_from() -> None:
    project = load_project(EXAMPLE)
    assert project.time
    frame = read(project)
    before = frame[frame[YEAR] < project.time.arrives_from]
    assert len(before) == 3393
    train, _, holdout = split(before, project)
    assert set(train[project.entity]).isdisjoint(holdout[project.entity])
