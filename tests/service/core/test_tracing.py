"""Traces are made where they are asked for, and cost nothing elsewhere."""

import sys

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.core import tracing
from tests.collector import collecting


def test_off_unless_an_endpoint_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is noted, nothing handed on."""
    monkeypatch.delenv(tracing.ENDPOINT, raising=False)
    tracing.start("api")
    with tracing.span("nothing", number=1) as span:
        span.note(more=2)
        span.answer("GET", "/", 200)
        assert tracing.traceparent() is None
        assert tracing.handed_on() == {}
        assert tracing.add_ids(None, "info", {"event": "e"}) == {"event": "e"}
    tracing.passed("nothing", 1.0)
    tracing.stop()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything starts, in one line that says how to install it."""
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    ended = CliRunner().invoke(app, ["up"])
    assert ended.exit_code == 1
    assert ended.stderr == (
        "simclr: OTEL_EXPORTER_OTLP_ENDPOINT is set, and opentelemetry.sdk.trace is not installed:"
        " pip install 'simclr-service[tracing]', or unset it\n"
    )


def test_spans_nest_and_go_on_from_a_traceparent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child has its parent's trace; a given traceparent has precedence; records name the span they were logged in."""
    given = f"00-{'a' * 32}-{'b' * 16}-01"
    with collecting(monkeypatch) as collector:
        with tracing.span("outer", parent=given, left_out=None, number=1):
            record = tracing.add_ids(None, "info", {})
            with tracing.span("inner"):
                handed_on = tracing.handed_on()
                tracing.passed("earlier", 0.25, seconds_ago=0.5)
        tracing.stop()
        outer, inner, earlier = (collector.one(name) for name in ("outer", "inner", "earlier"))
    assert (outer.trace_id, outer.parent_id) == ("a" * 32, "b" * 16)
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
    assert outer.attributes == {"simclr.number": 1}
    assert record == {"trace_id": outer.trace_id, "span_id": outer.span_id}
    assert handed_on == {"TRACEPARENT": f"00-{inner.trace_id}-{inner.span_id}-01"}
    assert earlier.parent_id == inner.span_id
    assert earlier.seconds == pytest.approx(0.25, abs=1e-6)


def test_what_raises_is_an_error_of_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on to whoever handles it."""
    with collecting(monkeypatch) as collector:
        with pytest.raises(ValueError, match="as it was"), tracing.span("failing"):
            raise ValueError("as it was")
        tracing.stop()
        assert collector.one("failing").is_error
