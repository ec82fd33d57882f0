"""Reading server-sent events."""

from collections.abc import Iterator

import httpx

SSE = {"Accept": "text/event-stream"}


def read_stream(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The fields of each event; comments are passed over."""
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value
        elif not line and event:
            yield event
            event = {}
