"""Several things awaited at once."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


async def together(work: Sequence[Awaitable[Result]]) -> list[Result]:
    """asyncio.gather, but one thing alone is awaited as it is: without a task, and a turn of the loop, of its own."""
    return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
