"""What both clients give to httpx."""

from typing import Any

import httpx

TIMEOUT_SECONDS = 120
RETRY_SECONDS = 60


def http_options(base_url: str, api_key: str | None, timeout_seconds: float) -> dict[str, Any]:
    """The arguments of httpx.Client and httpx.AsyncClient for a service, with the key in each request."""
    is_local = httpx.URL(base_url).host in {"127.0.0.1", "::1", "localhost"}  # never behind the environment's proxy
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": base_url, "headers": headers, "timeout": timeout_seconds, "trust_env": not is_local}
