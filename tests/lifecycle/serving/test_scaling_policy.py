"""How many replicas are wanted: the busier of the two counts decides."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.serving.replicas import BUSY, BusyShare, ByLoad


def context(in_work: float, **busy: list[float]) -> Any:
    """Of a controller that aims at two requests in work; `busy` has each replica's looks."""
    told = {
        name: [SimpleNamespace(timestamp=float(at), value=value) for at, value in enumerate(looks)]
        for name, looks in busy.items()
    }
    return SimpleNamespace(
        total_num_requests=in_work,
        raw_metrics={BUSY: told} if told else {},
        config=SimpleNamespace(get_target_ongoing_requests=lambda: 2.0),
    )


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (context(0.0), 0.0),
        (context(6.0), 3.0),
        (context(0.0, one=[0.9]), 1.8),
        (context(0.0, one=[0.1, 0.8], two=[0.9, 0.4], three=[]), 2.4),
        (context(8.0, one=[0.9]), 4.0),
    ],
    ids=["idle", "in work", "busy", "the newest look of each", "the greater"],
)
def test_replicas_wanted(seen: Any, wanted: float) -> None:
    replicas, state = ByLoad(target_busy_share=0.5)(seen)
    assert replicas == pytest.approx(wanted)
    assert state == {}


def test_a_thread_that_works_is_busy_and_one_that_sleeps_is_not() -> None:
    share = BusyShare()
    time.sleep(0.1)
    assert share.look() < 0.2
    end = time.thread_time() + 0.05
    began = time.monotonic()
    while time.thread_time() < end:
        pass
    elapsed = time.monotonic() - began
    assert share.look() == pytest.approx(0.05 / elapsed, rel=0.3)
