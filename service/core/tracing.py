"""Traces for OpenTelemetry: one goes from a request to each process that trains for it.

Off, and no exporter imported, unless OTEL_EXPORTER_OTLP_ENDPOINT is set; then the extra `tracing` has to be installed.
The name is OpenTelemetry's own, as are the other variables that its SDK reads (OTEL_*). No provider is set for the
whole process: what other packages would trace with one stays untraced. A trace is carried on by its traceparent (W3C
Trace Context): in a request's header, a job's row, the environment of a child.
"""

import os
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACEPARENT = "TRACEPARENT"
EXPORT_SECONDS = 2  # that a collector which is away may cost a process at its end

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool | None

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None  # None: off


class TracingUnavailable(RuntimeError):
    """Traces are asked for and can't be made; the message says what to do."""


class Span:
    """A part of a trace, or nothing where traces are off."""

    def __init__(self, inner: "OtelSpan | None" = None) -> None:
        self._inner = inner

    def note(self, **attributes: Value) -> None:
        """Add attributes, as `simclr.NAME`; None adds nothing."""
        if self._inner is not None:
            self._inner.set_attributes(_named(attributes))

    def answer(self, method: str, route: str, status: int | None) -> None:
        """Name a request's span, by OpenTelemetry's conventions for HTTP."""
        if self._inner is None:
            return
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  # it need not be installed

        self._inner.update_name(f"{method} {route}")
        self._inner.set_attributes({"http.request.method": method, "http.route": route})
        if status is not None:
            self._inner.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            self._inner.set_status(StatusCode.ERROR)


def is_on() -> bool:
    """Whether the environment asks for traces."""
    return bool(os.environ.get(ENDPOINT))


def check() -> None:
    """Raise TracingUnavailable if traces are asked for and the packages for them are not installed."""
    if not is_on():
        return
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415
    except ImportError as error:
        raise TracingUnavailable(
            f"{ENDPOINT} is set, and {error.name} is not installed: pip install 'simclr-service[tracing]', or unset it"
        ) from error


def start(part: Literal["api", "worker", "trainer"]) -> None:
    """Have the spans of this process exported, if the environment asks for it. Raises TracingUnavailable."""
    global _provider, _tracer  # noqa: PLW0603  # one a process, like the logs' configuration
    check()
    if not is_on() or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    _provider = TracerProvider(resource=Resource.create({"service.name": f"simclr-{part}"}))  # it flushes at exit
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_SECONDS)))
    _tracer = _provider.get_tracer("simclr")


def stop() -> None:
    """Export what there is; from now on traces are off. For those who don't end as a process usually does."""
    global _provider, _tracer  # noqa: PLW0603  # as above
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


@contextmanager
def span(name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: Value) -> Iterator[Span]:
    """A span around the block: of the trace `parent` (a traceparent) if that is given, else of the current one."""
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415

    with _tracer.start_as_current_span(
        name,
        context=_context_of(parent),
        kind=SpanKind[kind.upper()],
        attributes=_named(attributes),
        record_exception=False,  # nor its message: it may have contents
        set_status_on_exception=False,
    ) as inner:
        try:
            yield Span(inner)
        except BaseException as error:
            inner.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def passed(name: str, seconds: float, *, seconds_ago: float = 0, **attributes: Value) -> None:
    """A span of the current trace that is over, since so long."""
    if _tracer is not None:
        end = time.time_ns() - int(seconds_ago * 1e9)
        _tracer.start_span(name, start_time=end - int(seconds * 1e9), attributes=_named(attributes)).end(end)


def traceparent() -> str | None:
    """What carries the current trace on; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def handed_on() -> dict[str, str]:
    """What a child's environment needs to go on with the current trace."""
    found = traceparent()
    return {TRACEPARENT: found} if found else {}


def inherited() -> str | None:
    """The traceparent that this process's parent has handed on."""
    return os.environ.get(TRACEPARENT)


def add_ids(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Have a log's record name the current span (a processor of structlog)."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span  # noqa: PLC0415

        context = get_current_span().get_span_context()
        if context.is_valid:
            record.update(trace_id=f"{context.trace_id:032x}", span_id=f"{context.span_id:016x}")
    return record


def _context_of(parent: str | None) -> "Context | None":
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _named(attributes: dict[str, Value]) -> dict[str, str | int | float | bool]:
    return {f"simclr.{name}": value for name, value in attributes.items() if value is not None}
