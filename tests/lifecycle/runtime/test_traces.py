"""Spans of a run reach a collector, bear the run's id as trace, and hold no secret."""

import logging
import time
from collections.abc import Iterator
from functools import partial

import cloudpickle
import pytest

from lifecycle.redaction import remember
from lifecycle.runtime.run import Run, running
from lifecycle.runtime.traces import (
    DELIVERY_S,
    VALID,
    are_on,
    begin_traces,
    below,
    current_ids,
    end_traces,
    incoming,
    outgoing,
    span,
)
from lifecycle.settings import Settings
from lifecycle.training.tuning.trials import Worker
from tests.support.sinks import collector

RUN = Run(id="0f7a7c9e-53f1-4c0e-9d0c-6b1f5d3c8a11", name="train-small", flow="train")
TRACE = RUN.id.replace("-", "")


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    end_traces()


def test_off_by_default(settings: Settings) -> None:
    begin_traces(settings)
    with span("work", {}) as current:
        assert current is None
        assert current_ids() == {}
        assert outgoing() == {}
    with running(RUN):
        assert current_ids() == {"trace.id": TRACE}, "logs have a trace all the same"


def test_spans_of_a_run_are_one_trace(settings: Settings) -> None:
    remember("told-to-nobody")
    with collector() as (url, spans):
        begin_traces(settings.model_copy(update={"traces": url}))
        assert are_on()
        with running(RUN), span("train", {"lifecycle.project": "small"}):
            headers = outgoing()
            assert VALID.fullmatch(headers["traceparent"])
            ids = current_ids()
            with pytest.raises(KeyError), span("fit", {}):
                raise KeyError("told-to-nobody")
        end_traces()
    fit, train = spans
    assert (fit.name, train.name) == ("fit", "train")
    assert fit.trace_id.hex() == train.trace_id.hex() == TRACE == ids["trace.id"]
    assert fit.parent_span_id == train.span_id
    assert train.span_id.hex() == ids["span.id"]
    assert fit.status.code == 2
    assert "told-to-nobody" not in str(spans)
    assert "KeyError" in fit.status.message


def test_a_worker_is_below_the_span_of_its_driver(settings: Settings) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    with collector() as (url, spans):
        traced = settings.model_copy(update={"traces": url})
        begin_traces(traced, {"traceparent": parent})
        with span("work", {}):
            pass
        end_traces()
    assert spans[0].trace_id.hex() == "a" * 32
    assert spans[0].parent_span_id.hex() == "b" * 16


def test_a_share_of_none_sends_nothing(settings: Settings) -> None:
    with collector() as (url, spans):
        begin_traces(settings.model_copy(update={"traces": url, "traces_share": 0.0}))
        with running(RUN), span("train", {}):
            assert current_ids()["trace.id"] == TRACE
        end_traces()
    assert spans == []


def test_a_collector_that_is_down_holds_nobody(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    begin_traces(settings.model_copy(update={"traces": "http://127.0.0.1:9/v1/traces"}))
    begin = time.monotonic()
    with caplog.at_level(logging.CRITICAL), span("train", {}):
        pass
    assert time.monotonic() - begin < 0.5
    end_traces()
    assert time.monotonic() - begin < 10


def double(value: int) -> int:
    return 2 * value


def count(end: int) -> Iterator[int]:
    with span("count", {}):
        yield from range(end)


def test_work_in_a_worker_is_below_the_span_that_sent_it(settings: Settings) -> None:
    assert below(double, "work") is double, "nothing is around it while traces are off"
    with collector() as (url, spans):
        begin_traces(settings.model_copy(update={"traces": url}))
        with running(RUN), span("fit", {}):
            sent = [below(double, "double"), below(partial(count, 3), "numbers")]
        work, numbers = cloudpickle.loads(cloudpickle.dumps(sent))
        assert work(4) == 8
        assert list(numbers()) == [0, 1, 2]
        assert len(spans) == 4, "delivered without an end of the process"
    fit, doubled, inner, outer = spans
    assert [one.name for one in spans] == ["fit", "double", "count", "numbers"]
    assert doubled.parent_span_id == outer.parent_span_id == fit.span_id
    assert inner.parent_span_id == outer.span_id
    assert {one.trace_id.hex() for one in spans} == {TRACE}


def test_a_trial_is_a_span(settings: Settings) -> None:
    with collector() as (url, spans):
        begin_traces(settings.model_copy(update={"traces": url}))
        with running(RUN), span("tune", {}):
            parent = outgoing()
        worker = Worker(None)
        worker.open(lambda parameters, watch: 0.5)
        worker.run_traced(parent, 7, {}, [])
    tune, trial = spans
    assert (trial.name, trial.parent_span_id) == ("trial", tune.span_id)
    assert trial.attributes[0].value.int_value == 7


def test_a_worker_waits_once_for_a_collector_that_is_down(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    begin_traces(settings.model_copy(update={"traces": "http://127.0.0.1:9/v1/traces"}))
    work = below(double, "double")
    with caplog.at_level(logging.CRITICAL):
        begin = time.monotonic()
        work(1)
        assert time.monotonic() - begin < DELIVERY_S + 0.5
        begin = time.monotonic()
        assert [work(i) for i in range(20)] == [2 * i for i in range(20)]
        assert time.monotonic() - begin < 0.5


@pytest.mark.parametrize(
    "value", ["", "00-abc-def-01", f"00-{'0' * 32}-{'b' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01"]
)
def test_headers_that_are_not_what_w3c_wants_are_left_out(value: str) -> None:
    assert incoming([(b"traceparent", value.encode()), (b"tracestate", b"a=1")]) == {}
