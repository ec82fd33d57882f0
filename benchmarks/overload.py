"""What becomes of a service that is asked for six times what it can do, and whose model is switched under load?

    python benchmarks/overload.py [--photos photos.tar] [--encoder resnet18] [--side 224] [--seconds 20] [--swaps 60]

Measures the capacity (16 clients, each with one request under way), then sends six times as much at a steady rate: the
good answers a second beside the capacity, the latency of what was accepted, and every other status than 200 and 429.
Then the production alias moves between two models while 8 clients embed: failed requests, and memory after over before.
Ends with one JSON line; exits with 1 when a floor is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from api_server import Server, export, publish, run_load, running_api, running_database
from machine import device_name, num_cores, versions
from serve import Setting, images_of

from service.client import Client

TIMES = 6
MIN_GOODPUT, MAX_P99_SECONDS, MAX_GROWTH = 0.9, 1.5, 1.1
LOAD = Path(__file__).with_name("load.py")


def overload(server: Server, images: Path, seconds: float) -> dict[str, float]:
    """Six times the capacity, beside the capacity itself before and after."""
    load = [str(server.port), str(images), "--seconds", str(seconds)]
    capacities = [_rate(run_load([*load, "--clients", "16"]))]
    flood = run_load([*load, "--rate", str(TIMES * capacities[0])])
    capacities.append(_rate(run_load([*load, "--clients", "16"])))
    return {
        "capacity_per_second": sum(capacities) / len(capacities),
        "goodput": flood["ok"] / flood["seconds"] / (sum(capacities) / len(capacities)),
        "accepted_p50_seconds": flood["p50_seconds"],
        "accepted_p99_seconds": flood["p99_seconds"],
        "refused": flood["busy"],
        "other_statuses": flood["other"],
        "generator_cpu_seconds": flood["generator_cpu_seconds"],
    }


def _rate(result: dict[str, float]) -> float:
    return result["ok"] / result["seconds"]


def swaps(server: Server, images: Path, model_ids: list[str], num_swaps: int) -> dict[str, float]:
    """Move the alias while clients embed."""
    with Client(server.url) as client:
        for model_id in model_ids:  # both have served once
            client.set_alias("production", model_id)
        run_load([str(server.port), str(images), "--clients", "8", "--seconds", "5"])
        rss_bytes = server.rss_bytes
        command = [
            sys.executable,
            str(LOAD),
            str(server.port),
            str(images),
            "--clients",
            "8",
            "--seconds",
            str(num_swaps),
        ]
        seconds = []
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as clients:
            for number in range(num_swaps):
                started = time.monotonic()
                client.set_alias("production", model_ids[number % len(model_ids)])
                seconds.append(time.monotonic() - started)
                time.sleep(max(0.0, began + number + 1 - time.monotonic()))  # one a second
            result = json.loads(clients.communicate()[0])
    return {
        "swaps": num_swaps,
        "swap_p50_seconds": sorted(seconds)[len(seconds) // 2],
        "swap_ok": result["ok"],
        "swap_failed": result["other"],
        "swap_p99_seconds": result["p99_seconds"],
        "swap_growth": server.rss_bytes / rss_bytes,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a tar of photographs")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--swaps", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simclr-overload-") as name, running_database(Path(name)) as database_url:
        folder = Path(name)
        images_of(folder / "images", Setting(args.encoder, args.side), args.photos)
        export(folder / "exported", args.encoder, args.side)
        models = [publish(database_url, folder, folder / "exported", alias="production") for _ in range(2)]
        with running_api(folder, database_url) as server:
            result = overload(server, folder / "images", args.seconds)
            result |= swaps(server, folder / "images", models, args.swaps)
    about = {"machine": device_name(), "cores": num_cores(), "versions": versions("onnxruntime", "fastapi", "uvicorn")}
    print(json.dumps({**result, **about, "encoder": args.encoder, "side": args.side}))
    sys.exit(int(_misses_a_floor(result)))


def _misses_a_floor(result: dict[str, float]) -> bool:
    return (
        result["goodput"] < MIN_GOODPUT
        or result["accepted_p99_seconds"] > MAX_P99_SECONDS
        or result["other_statuses"] + result["swap_failed"] > 0
        or result["swap_growth"] > MAX_GROWTH
    )


if __name__ == "__main__":
    main()
