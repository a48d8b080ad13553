"""OpenTelemetry traces of runs and requests, off unless `LIFECYCLE_TRACES` names a collector.

Spans go out by OTLP over HTTP in the background; a collector that is down costs nothing but the
spans. Context comes in and goes out as W3C Trace Context (https://www.w3.org/TR/trace-context/).
Nothing of OpenTelemetry is imported while it is off: a replica starts without.
"""

import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from lifecycle.redaction import redact
from lifecycle.runtime.run import current_trace

if TYPE_CHECKING:
    from lifecycle.settings import Settings

PARENT, STATE = "traceparent", "tracestate"
RESPONSE = "traceresponse"
"""Header by which an answer names its trace (W3C Trace Context, level 2, draft)."""
VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
EXPORT_S = 5.0
"""Seconds that a delivery to the collector may take, and so the end of a process waits at most."""
DELIVERY_S = 1.0
"""Seconds that a Ray worker waits at the end of its work for the collector to take its spans."""

P = ParamSpec("P")
T = TypeVar("T")

_provider: Any = None
_parent: dict[str, str] = {}
_is_late = False
"""Whether the collector once took longer than `DELIVERY_S`; then nothing waits for it any more."""


def begin_traces(settings: "Settings", parent: Mapping[str, str] | None = None) -> None:
    """Have this process send spans, if the settings name a collector; once in a process.

    Args:
        parent: headers of the span that all others here are below, in a Ray worker.
    """
    global _provider
    _parent.clear()
    _parent.update(parent or {})
    if not settings.traces or _provider is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class RunIds(RandomIdGenerator):
        """The trace of a run has the run's id, so that either finds the other."""

        def generate_trace_id(self) -> int:
            return int(current_trace() or "0", 16) or super().generate_trace_id()

    resource = {
        "service.name": "lifecycle",
        "deployment.environment.name": settings.env,
        "host.name": platform.node(),
    }
    _provider = TracerProvider(
        resource=Resource.create(resource),
        sampler=ParentBased(TraceIdRatioBased(settings.traces_share)),
        id_generator=RunIds(),
    )
    exporter = OTLPSpanExporter(endpoint=settings.traces, timeout=EXPORT_S)
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def end_traces() -> None:
    """Deliver what is left, and send no more."""
    global _provider, _is_late
    provider, _provider = _provider, None
    _is_late = False
    _parent.clear()
    if provider is not None:
        provider.shutdown()


def are_on() -> bool:
    """Return whether this process sends spans."""
    return _provider is not None


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, Any],
    *,
    server: bool = False,
    parent: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """A span around the block, below the current one; nothing while traces are off.

    An error ends it with the error's name and message, without secrets.

    Args:
        server: whether it answers a request of another program.
        parent: headers of that request.

    Yields:
        The span; None while traces are off.
    """
    if _provider is None:
        yield None
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = dict(parent or {})
    if not carrier and not server and not trace.get_current_span().get_span_context().is_valid:
        carrier = _parent
    tracer = _provider.get_tracer("lifecycle")
    with tracer.start_as_current_span(
        name,
        context=TraceContextTextMapPropagator().extract(carrier) if carrier else None,
        kind=trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL,
        attributes=attributes,
        record_exception=False,  # its text may hold a secret
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            kind = type(error).__name__
            current.set_attribute("error.type", kind)
            current.set_status(trace.StatusCode.ERROR, redact(f"{kind}: {error}"))
            raise


# Work in Ray's workers: its spans are below the one that sent it there.


@contextmanager
def worker_span(
    name: str, attributes: Mapping[str, Any], parent: Mapping[str, str]
) -> Iterator[None]:
    """A span around work in a Ray worker, delivered at its end: Ray may then end the process.

    Args:
        parent: headers of the span that sent the work, from `outgoing`.
    """
    try:
        with span(name, attributes, parent=parent):
            yield
    finally:
        _deliver()


def below(work: Callable[P, T], name: str) -> Callable[P, T]:
    """Make a function, or a generator, a span below the current one, in whichever worker it runs.

    While traces are off it is returned as it is.
    """
    if _provider is None:
        return work
    parent = outgoing()

    if isgeneratorfunction(work):

        @wraps(work)
        def generate(*args: P.args, **kwargs: P.kwargs) -> Any:
            with worker_span(name, {}, parent):
                yield from work(*args, **kwargs)

        return generate

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with worker_span(name, {}, parent):
            return work(*args, **kwargs)

    return run


def _deliver() -> None:
    """Send the spans that have ended; where the collector is late, go on without waiting for it."""
    global _is_late
    if _provider is None or _is_late:
        return
    delivery = Thread(target=_provider.force_flush, daemon=True)  # it takes no time limit
    delivery.start()
    delivery.join(DELIVERY_S)
    _is_late = delivery.is_alive()


def current_ids() -> dict[str, str]:
    """Trace and span of the work under way, as fields of a log line; without traces, of its run."""
    if _provider is not None:
        from opentelemetry.trace import get_current_span

        context = get_current_span().get_span_context()
        if context.is_valid:
            return {"trace.id": f"{context.trace_id:032x}", "span.id": f"{context.span_id:016x}"}
    trace = current_trace()
    return {"trace.id": trace} if trace else {}


def outgoing() -> dict[str, str]:
    """Headers that carry the current span, whoever opened it, to another program; none without."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def incoming(headers: Any) -> dict[str, str]:
    """The trace headers of a request, if they are as W3C wants them.

    Args:
        headers: as ASGI gives them.
    """
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (PARENT.encode(), STATE.encode())
    }
    return carrier if VALID.fullmatch(carrier.get(PARENT, "")) else {}
