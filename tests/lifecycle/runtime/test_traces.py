"""Spans of a run reach a collector, bear the run's id as trace, and hold no secret."""

import logging
import time
from collections.abc import Iterator

import pytest

from lifecycle.redaction import remember
from lifecycle.runtime.run import Run, running
from lifecycle.runtime.traces import (
    VALID,
    are_on,
    begin_traces,
    current_ids,
    end_traces,
    incoming,
    outgoing,
    span,
)
from lifecycle.settings import Settings
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


@pytest.mark.parametrize(
    "value", ["", "00-abc-def-01", f"00-{'0' * 32}-{'b' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01"]
)
def test_headers_that_are_not_what_w3c_wants_are_left_out(value: str) -> None:
    assert incoming([(b"traceparent", value.encode()), (b"tracestate", b"a=1")]) == {}
