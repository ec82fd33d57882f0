"""Which threads give way to the event loop."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from service.scheduling import give_way, giving_way


def test_threads_of_the_block_give_way() -> None:
    """What is started inside is scheduled as computing, what is started before and after is not."""
    seen = []

    def look() -> None:
        seen.append(os.sched_getscheduler(0))

    def start() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    start()
    with giving_way():
        start()
    start()
    assert seen == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]


def test_a_pool_gives_way() -> None:
    """As a pool's initializer, for its own threads alone."""
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        assert pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
