"""Promises to those who embed: hostile uploads, a flood, switches of the model, a stop, a full disk."""

from pathlib import Path

from api_server import export, publish, running_api, running_database
from overload import MAX_GROWTH, MAX_P99_SECONDS, MIN_GOODPUT, TIMES, overload, swaps
from promises import draining, full_disk, hostile
from promises.ledger import Ledger
from serve import Setting, images_of

SETTING = Setting("resnet18", 224)
FLOOD_SECONDS = 3
NUM_SWAPS = 10


def measure(ledger: Ledger, folder: Path) -> None:
    """Measure one after the other, each on an API of its own, and enter what was promised."""
    with running_database(folder) as database_url:
        hostile.measure(ledger, folder, database_url)
        images = folder / "images"
        images_of(images, SETTING, None)
        export(folder / "exported", SETTING.encoder, SETTING.side)
        models = [publish(database_url, folder, folder / "exported", alias="production") for _ in range(2)]
        with running_api(folder, database_url) as server:
            _enter_flood(ledger, overload(server, images, FLOOD_SECONDS))
            _enter_swaps(ledger, swaps(server, images, models, NUM_SWAPS))
            draining.measure(ledger, server, images)
        full_disk.measure(ledger, folder, database_url)


def _enter_flood(ledger: Ledger, found: dict[str, float]) -> None:
    promise = f"{TIMES} times the capacity: good answers over the capacity, on the cores that the load leaves"
    ledger.at_least("flood_goodput", promise, MIN_GOODPUT, found["goodput"], "")
    promise = f"{TIMES} times the capacity: accepted requests, p99"
    ledger.at_most("flood_p99_seconds", promise, MAX_P99_SECONDS, found["accepted_p99_seconds"], "s")
    others = int(found["other_statuses"])
    refused = f"others beside {found['refused']:.0f} refused"
    ledger.none("flood_other_statuses", f"{TIMES} times the capacity: only 200 and 429", others, of=refused)
    ledger.note(
        capacity_per_second=round(found["capacity_per_second"], 1),
        flood_goodput_of_the_clock=round(found["goodput_of_the_clock"], 3),
    )


def _enter_swaps(ledger: Ledger, found: dict[str, float]) -> None:
    failed = f"failed of {found['swap_ok'] + found['swap_failed']:.0f}"
    promise = f"{NUM_SWAPS} switches of the model under load fail no request"
    ledger.none("swap_failed", promise, int(found["swap_failed"]), of=failed)
    promise = f"memory after {NUM_SWAPS} switches, over before"
    ledger.at_most("swap_growth", promise, MAX_GROWTH, found["swap_growth"], "")
