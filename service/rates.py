"""How often each key may ask: a bucket of tokens a key, in the memory of this process."""

import math
import time

from service.caller import Caller
from service.core.errors import RateLimited

BURST_SECONDS = 2  # of tokens that a bucket holds, and at least one


class Bucket:
    """Fills with `rate` tokens a second up to `size`; each request takes one."""

    def __init__(self, rate: float, size: float) -> None:
        self.rate = rate
        self._size = size
        self._tokens = size
        self._filled_at = time.monotonic()

    def take(self) -> float:
        """Take a token: 0, or where there is none the seconds until there is one."""
        now = time.monotonic()
        self._tokens = min(self._size, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0


class Rates:
    """The buckets of the keys that have a limit. For one event loop."""

    def __init__(self) -> None:
        self._buckets: dict[str | None, Bucket] = {}

    def check(self, caller: Caller) -> None:
        """Raises RateLimited where the caller's key has none left."""
        rate = caller.limits.requests_per_second
        if rate is None:
            return
        bucket = self._buckets.get(caller.key_id)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[caller.key_id] = Bucket(rate, max(1, BURST_SECONDS * rate))
        wait_seconds = bucket.take()
        if wait_seconds:
            detail = f"this key may make {rate:g} requests a second; the next one in {wait_seconds:.2f} seconds"
            raise RateLimited(detail, retry_after_seconds=math.ceil(wait_seconds))
