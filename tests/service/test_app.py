"""What the application does to the process that it runs in."""

import gc

import httpx


def test_the_collector_passes_over_what_stays(api: httpx.Client) -> None:
    """What was there at the start is out of its reach, and it looks at the young rarely."""
    assert api.get("/healthz").status_code == 200
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == (10_000, 10, 10)
