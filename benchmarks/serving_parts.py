"""Where does the processor time of an embedded image go: into the event loop, decoding or computing?

    python benchmarks/serving_parts.py [CHECKOUT ...] [--photos photos.tar] [--variant float32] [--side 32]

Milliseconds an image, one image a request at 16 keep-alive clients, without the cache of results. Of several checkouts,
which share one database and model, the windows are timed in turn, the other services suspended, and each is compared
with the first: the ratios are medians over rounds of windows of the same round. Ends with one JSON line.
"""

import argparse
import json
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args
from unittest.mock import patch

from api_server import Server, export, publish, run_load, running_api, running_database
from machine import device_name, versions
from serve import Setting, images_of

from models.variants import Variant

CLIENTS = 16
HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Parts:
    """Milliseconds of a core an image; images a second of the clock."""

    event_loop: float
    decoding: float
    computing: float
    total: float
    per_second: float


def timed(server: Server, folder: Path, seconds: float) -> Parts:
    """The parts of a server that is suspended but for this."""
    server.resume()
    before = server.cpu_seconds_by_part
    result = run_load([str(server.port), str(folder), "--clients", str(CLIENTS), "--seconds", str(seconds)])
    after = server.cpu_seconds_by_part
    server.suspend()
    parts = [1000 * (b - a) / result["ok"] for a, b in zip(before, after, strict=True)]
    return Parts(*parts, total=sum(parts), per_second=result["ok"] / result["seconds"])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE], help="default: this one")
    parser.add_argument("--photos", type=Path, help="a tar of photographs; default: generated ones")
    parser.add_argument("--variant", choices=get_args(Variant), default="int8")
    parser.add_argument(
        "--side", type=int, default=224, help="of the encoder's input; below 64 the images are small, too"
    )
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=16)
    args = parser.parse_args()
    setting = Setting("resnet18", args.side)
    with tempfile.TemporaryDirectory(prefix="simclr-parts-") as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(running_database(folder))
        images_of(folder / "images", setting, args.photos)
        export(folder / "exported", setting.encoder, setting.side)
        publish(url, folder, folder / "exported", alias="production")
        servers = []
        for checkout in args.checkouts:
            with patch.dict(os.environ, PYTHONPATH=str(checkout.resolve())):
                server = stack.enter_context(running_api(folder, url, max_wait_seconds="600", variant=args.variant))
            stack.callback(server.resume)  # so that it can stop
            timed(server, folder / "images", args.seconds)
            servers.append(server)
        windows: list[list[Parts]] = [[] for _ in servers]
        for number in range(args.rounds):
            order = range(len(servers)) if number % 2 == 0 else reversed(range(len(servers)))
            for i in order:
                windows[i].append(timed(servers[i], folder / "images", args.seconds))
    result = [summary(checkout, of, windows[0]) for checkout, of in zip(args.checkouts, windows, strict=True)]
    for line in result:
        print(json.dumps(line))
    print(json.dumps({"checkouts": result, "machine": device_name(), "versions": versions("onnxruntime", "uvicorn")}))


def summary(checkout: Path, windows: list[Parts], firsts: list[Parts]) -> dict[str, object]:
    """Medians of a checkout's parts, and of their ratios to the first one's."""
    rows, base = [asdict(window) for window in windows], [asdict(window) for window in firsts]
    return {
        "checkout": checkout.resolve().name,
        **{part: round(statistics.median(row[part] for row in rows), 2) for part in rows[0]},
        "over_first": {
            part: round(statistics.median(row[part] / first[part] for row, first in zip(rows, base, strict=True)), 3)
            for part in rows[0]
        },
    }


if __name__ == "__main__":
    main()
