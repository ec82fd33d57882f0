"""What both clients give to httpx."""

from typing import Any

import httpx

TIMEOUT_SECONDS = 120
RETRY_SECONDS = 60


def http_options(base_url: str, timeout_seconds: float) -> dict[str, Any]:
    """The arguments of httpx.Client and httpx.AsyncClient for a service."""
    is_local = httpx.URL(base_url).host in {"127.0.0.1", "::1", "localhost"}  # never behind the environment's proxy
    return {"base_url": base_url, "timeout": timeout_seconds, "trust_env": not is_local}
