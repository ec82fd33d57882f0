"""How much embedding work is let in at once: by images, by bytes, and by how long a request would wait for its turn.

A request waits for the images that were let in before it. What one costs is measured as the service works: the time
between one image that is done and the next, which holds decoding, batching and whatever else the machine does.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from service.core.errors import Busy, TooLarge
from service.core.settings import Settings

WEIGHT = 1 / 16  # of the newest image in the moving average of what one costs
BATCH_SECONDS = 0.002  # images that are done within it of one another were one batch


@dataclass(frozen=True)
class Work:
    """A kind of work: images for one model, of which the first is expected to cost `guess_seconds`."""

    name: str
    guess_seconds: float


DECODING = Work("", 0.005)  # alone, where no model embeds


class Ticket:
    """A request that was let in."""

    def __init__(self, admission: "Admission", work: Work, num_images: int) -> None:
        self._admission = admission
        self._work = work
        self.num_left = num_images

    def finish(self, *, is_sample: bool) -> None:
        """One of its images is done; `is_sample` if it went the whole way, so that its time tells what one costs."""
        if self.num_left:  # else it has left already
            self.num_left -= 1
            self._admission.note(self._work, is_sample=is_sample)


class Admission:
    """What is in flight, for one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._max_images = settings.max_images_in_flight
        self._max_bytes = settings.max_bytes_in_flight
        self._max_wait_seconds = settings.max_wait_seconds
        self._left: Counter[str] = Counter()  # images in flight by name of work
        self._costs: dict[str, float] = {}  # seconds an image
        self._num_bytes = 0
        self._last_done_at = 0.0
        self._batch: tuple[str, int, float] = ("", 0, 0.0)  # the newest that is done: work, images, seconds

    @property
    def num_images(self) -> int:
        """Images in flight."""
        return self._left.total()

    @property
    def wait_seconds(self) -> float:
        """How long a request that came now would wait for its turn."""
        return sum(number * self._costs[name] for name, number in self._left.items())

    def check_wait(self) -> None:
        """Raise Busy if a request would wait too long; for a request whose body has not been read yet."""
        wait_seconds = self.wait_seconds
        if wait_seconds > self._max_wait_seconds:
            detail = f"{self.num_images} images are in work; an answer would take {wait_seconds:.1f} seconds"
            raise Busy(detail, retry_after_seconds=max(1, math.ceil(wait_seconds - self._max_wait_seconds)))

    @contextmanager
    def admit(self, work: Work, contents: Sequence[bytes]) -> Iterator[Ticket]:
        """Hold room for these files in the block. Raises Busy, or TooLarge for what would never have room."""
        num_bytes = sum(map(len, contents))
        self._check_size(len(contents), num_bytes)
        self.check_wait()
        if self.num_images + len(contents) > self._max_images or self._num_bytes + num_bytes > self._max_bytes:
            detail = f"{self.num_images} images of {self._num_bytes:,} bytes are in work; try again in a second"
            raise Busy(detail, retry_after_seconds=1)
        ticket = self._enter(work, len(contents), num_bytes)
        try:
            yield ticket
        finally:
            self._left[work.name] -= ticket.num_left
            ticket.num_left = 0
            self._num_bytes -= num_bytes
            if not self._left[work.name]:
                del self._left[work.name]

    def _check_size(self, num_images: int, num_bytes: int) -> None:
        if num_images > self._max_images:
            detail = f"{num_images} images in one request; at most {self._max_images} (SIMCLR_MAX_IMAGES_IN_FLIGHT)"
            raise TooLarge(detail, code="too_many_images")
        if num_bytes > self._max_bytes:
            raise TooLarge(
                f"{num_bytes:,} bytes in one request; at most {self._max_bytes:,} (SIMCLR_MAX_BYTES_IN_FLIGHT)"
            )

    def _enter(self, work: Work, num_images: int, num_bytes: int) -> Ticket:
        if not self._left:
            self._last_done_at = time.monotonic()  # idle time is no image's cost
        self._costs.setdefault(work.name, work.guess_seconds)
        self._left[work.name] += num_images
        self._num_bytes += num_bytes
        return Ticket(self, work, num_images)

    def note(self, work: Work, *, is_sample: bool) -> None:
        """An image is done."""
        self._left[work.name] -= 1
        now = time.monotonic()
        seconds = now - self._last_done_at
        self._last_done_at = now
        name, num_images, before = self._batch
        if is_sample and name == work.name and seconds < BATCH_SECONDS:
            self._batch = (name, num_images + 1, before + seconds)
            return
        self._learn(*self._batch)
        self._batch = (work.name, 1, seconds) if is_sample else ("", 0, 0.0)

    def _learn(self, name: str, num_images: int, seconds: float) -> None:
        """Move the cost of an image towards a batch's; each by each, it would be too low after the last of a batch."""
        if num_images:
            weight = 1 - (1 - WEIGHT) ** num_images
            self._costs[name] += weight * (seconds / num_images - self._costs[name])
