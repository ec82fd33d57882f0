"""Into how many lanes embedding is divided: batches that are computed side by side, one a core."""

import os

from models.embedder import has_gpu
from service.core.settings import Settings


def num_lanes(settings: Settings) -> int:
    """How many batches may be computed side by side; one that is alone has as many cores."""
    if has_gpu():
        return 1
    num_cores = len(os.sched_getaffinity(0))
    return min(settings.num_ort_threads or num_cores, num_cores)
