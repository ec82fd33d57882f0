"""What becomes of a service that is asked for six times what it can do, and whose model is switched under load?

    python benchmarks/overload.py [--photos photos.tar] [--encoder resnet18] [--side 224] [--seconds 10] [--swaps 60]

Measures the capacity (16 clients, each with one request under way) and sends six times as much at a steady rate, three
times in turn: the good answers beside the capacity, the latency of what was accepted (of the slowest flood), and every
other status than 200 and 429. The load comes from the same machine, and six times as much of it takes more of the cores
that the service computes on: `goodput` is per second of the cores that the generator left, `goodput_of_the_clock` as
the clock has it.
Then the production alias moves between two models while 8 clients embed: failed requests, and memory after over before.
Ends with one JSON line; exits with 1 when a floor is missed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from api_server import Server, export, publish, run_load, running_api, running_database
from machine import device_name, num_cores, versions
from serve import Setting, images_of

from service.client import Client

TIMES = 6
ROUNDS = 3
MIN_GOODPUT, MAX_P99_SECONDS, MAX_GROWTH = 0.9, 1.5, 1.1
LOAD = Path(__file__).with_name("load.py")


def overload(server: Server, images: Path, seconds: float) -> dict[str, float]:
    """Six times the capacity beside the capacity, in turn, as a shared machine changes by the minute."""
    load = [str(server.port), str(images), "--seconds", str(seconds)]
    calm, floods = [run_load([*load, "--clients", "16"])], []
    for _ in range(ROUNDS):
        floods.append(run_load([*load, "--rate", str(TIMES * calm[-1]["ok"] / calm[-1]["seconds"])]))
        calm.append(run_load([*load, "--clients", "16"]))
    capacity = _total(calm, "ok") / _total(calm, "seconds")
    return {
        "capacity_per_second": capacity,
        "goodput": _per_core_second(floods) / _per_core_second(calm),
        "goodput_of_the_clock": _total(floods, "ok") / _total(floods, "seconds") / capacity,
        "accepted_p50_seconds": statistics.median(result["p50_seconds"] for result in floods),
        "accepted_p99_seconds": max(result["p99_seconds"] for result in floods),
        "refused": _total(floods, "busy"),
        "other_statuses": _total(floods, "other"),
        "generator_cpu_seconds": _total(floods, "generator_cpu_seconds"),
    }


def _per_core_second(results: Sequence[dict[str, float]]) -> float:
    """Good answers a second of a core that the generator left to the service."""
    core_seconds = num_cores() * _total(results, "seconds") - _total(results, "generator_cpu_seconds")
    return _total(results, "ok") / core_seconds


def _total(results: Sequence[dict[str, float]], name: str) -> float:
    return sum(result[name] for result in results)


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
    parser.add_argument("--seconds", type=float, default=10, help="of each flood, and of each look at the capacity")
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
