"""Flows killed, and left without disk, at changes of files: run again, all is as undisturbed."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import STAGES
from tests.chaos.run import chaos

POINTS, SEED = 30, 1

pytestmark = pytest.mark.system


@pytest.mark.skipif(not shutil.which("cc"), reason="faults.c needs a C compiler")
def test_a_stage_that_is_struck_anywhere_ends_as_undisturbed_when_it_runs_again() -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, chaos(Path(folder)) as struck:
        struck.live()
        outcomes = [struck.strike(point) for point in struck.points(POINTS, SEED)]
    assert {o.point: o.problems for o in outcomes if o.problems} == {}
    hit = Counter(outcome.point.stage for outcome in outcomes if outcome.struck)
    assert set(hit) == set(STAGES), "a stage was never struck"
