"""What does the service cost beside the computation that it serves, and beside a simple endpoint?

    python benchmarks/serve.py [--photos photos.tar] [--only resnet50_224] [--exported FOLDER]

Timed in turn, --seconds each, --rounds times, for ResNet-18 and ResNet-50 on photographs at 224 pixels and ResNet-18 on
images of 32, one image a request:

    runtime     ONNX Runtime on tensors that are ready, in batches of 16
    inprocess   files -> decode -> ONNX Runtime in one program without HTTP, in several forms
    service     the API over HTTP at 1, 16 and 128 keep-alive clients, without its cache of results
    naive       naive_endpoint.py at 16 clients
    litserve    the same ONNX file behind LitServe, and
    mosec       behind mosec, two published servers, at 16 clients; where benchmarks/requirements.txt is installed

`--exported` takes a model's folder in place of fresh random weights; where it holds model-int8.onnx, and this release
serves variants, inprocess and service are measured with it too.

Rates are images a second of processor time of the server alone (the API and its decoders; not the database, not the
load generator, which is a process of its own), and images a second of the clock, for which the load generator competes.
A ratio is the median over rounds of windows of the same round; over `inprocess` it is the least over its forms. Without
photographs, generated ones are used. Ends with one JSON line; its headlines are the least over the settings at 224
pixels, by processor time, at 16 clients. Exits with 1 when a floor is missed.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
from api_server import Server, export, publish, run_load, running_api, running_database, running_endpoint
from images import write_photographs, write_small_images
from machine import device_name, num_cores, versions
from numpy.typing import NDArray

from models.config import Preprocessing
from models.embedder import Embedder
from models.preprocess import ImageLimits, decode, to_input
from service.core.settings import Settings

LIMITS = ImageLimits(max_bytes=10**8, max_pixels=10**9, max_side=10**5)
BATCH = 16
LANE_BATCH = 4
CLIENTS = (1, 16, 128)
PEERS = ("litserve", "mosec")
NUM_GENERATED = 64
FLOORS = {
    "float32_over_inprocess": 0.95,
    "int8_over_inprocess": 0.85,
    "int8_over_float32": 2.5,
    "int8_over_naive": 4.0,
}
MAX_P99_OVER_P50 = 3.0


@dataclass(frozen=True)
class Setting:
    """A network and the images that it gets."""

    encoder: str
    side: int


SETTINGS = {
    "resnet18_224": Setting("resnet18", 224),
    "resnet50_224": Setting("resnet50", 224),
    "resnet18_32": Setting("resnet18", 32),
}


@dataclass(frozen=True)
class Window:
    """What was done in a time."""

    per_second: float
    per_cpu_second: float
    p50_seconds: float = 0.0
    p99_seconds: float = 0.0


def in_process(work: Callable[[], int], seconds: float) -> Window:
    """Repeat `work`, which returns its number of images, in this process and its children."""
    began, before, num_images = time.monotonic(), _own_cpu_seconds(), 0
    while time.monotonic() < began + seconds:
        num_images += work()
    return Window(num_images / (time.monotonic() - began), num_images / (_own_cpu_seconds() - before))


def _own_cpu_seconds() -> float:
    pool = multiprocessing.active_children()
    times = [psutil.Process(pid).cpu_times() for pid in (psutil.Process().pid, *(child.pid for child in pool))]
    return sum(time.user + time.system for time in times)


def over_http(server: Server, folder: Path, clients: int, seconds: float) -> Window:
    """A server under load from a process of its own."""
    before = server.cpu_seconds
    result = run_load([str(server.port), str(folder), "--clients", str(clients), "--seconds", str(seconds)])
    if result["other"]:
        sys.exit(f"{result['other']} answers were neither 200 nor 429")
    return Window(
        result["ok"] / result["seconds"],
        result["ok"] / (server.cpu_seconds - before),
        result["p50_seconds"],
        result["p99_seconds"],
    )


def over_http_alone(server: Server, folder: Path, clients: int, seconds: float) -> Window:
    """A server that is suspended but for this."""
    server.resume()
    window = over_http(server, folder, clients, seconds)
    server.suspend()
    return window


def inputs(contents: Sequence[bytes], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Files to the encoder's input, (M, S, S, 3)."""
    side = preprocessing.storage_side
    return np.stack([to_input(decode(content, LIMITS, side).image, preprocessing) for content in contents])


def batches(contents: Sequence[bytes]) -> list[Sequence[bytes]]:
    """The files, BATCH at a time, the last ones left out where they don't fill one."""
    return [contents[i : i + BATCH] for i in range(0, len(contents) - BATCH + 1, BATCH)]


class InProcess:
    """Decoding and ONNX Runtime without HTTP: one after the other, with processes that decode ahead, or in lanes."""

    def __init__(self, embedder: Embedder, contents: Sequence[bytes]) -> None:
        self._embedder = embedder
        self._contents = contents
        self._batches = batches(contents)
        self._decode = partial(inputs, preprocessing=embedder.preprocessing)

    def serial(self) -> int:
        """Decode a batch, embed it."""
        for batch in self._batches:
            self._embedder.embed(self._decode(batch))
        return BATCH * len(self._batches)

    def ahead(self, num_processes: int, seconds: float) -> Window:
        """Processes decode the next batches while this one is embedded."""

        def work() -> int:
            for images in pool.imap(self._decode, self._batches):
                self._embedder.embed(images)
            return BATCH * len(self._batches)

        with multiprocessing.get_context("forkserver").Pool(num_processes) as pool:
            work()  # its processes have started
            return in_process(work, seconds)

    def lanes(self, seconds: float) -> Window:
        """A thread for each core decodes and embeds small batches on it."""
        small = [self._contents[i : i + LANE_BATCH] for i in range(0, len(self._contents), LANE_BATCH)]

        def lane(number: int) -> int:
            return sum(
                len(self._embedder.embed(self._decode(batch), in_lane=True)) for batch in small[number :: num_cores()]
            )

        with ThreadPoolExecutor(num_cores()) as threads:
            return in_process(lambda: sum(threads.map(lane, range(num_cores()))), seconds)

    def forms(self, seconds: float) -> dict[str, Callable[[], Window]]:
        """What times each form, by its name."""
        ahead = {f"ahead {n}": partial(self.ahead, n, seconds) for n in sorted({1, num_cores()})}
        serial = partial(in_process, self.serial, seconds)
        return {"serial": serial, **ahead, "lanes": partial(self.lanes, seconds)}


def images_of(folder: Path, setting: Setting, photos: Path | None) -> list[bytes]:
    """The files to embed, which are put into `folder`."""
    folder.mkdir()
    if setting.side < 64:
        write_small_images(folder, NUM_GENERATED)
    elif photos is None:
        write_photographs(folder, NUM_GENERATED)
    else:
        with tarfile.open(photos) as tar:
            for number, content in enumerate(_members(tar)):
                (folder / f"{number:05}.jpg").write_bytes(content)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def _members(tar: tarfile.TarFile) -> Iterator[bytes]:
    for member in tar:
        file = tar.extractfile(member)
        if file is not None:
            yield file.read()


def measure(name: str, args: argparse.Namespace, folder: Path, database_url: str) -> dict[str, list[Window]]:
    """The windows of one setting by what was timed, one a round."""
    setting = SETTINGS[name]
    contents = images_of(folder / f"images-{name}", setting, args.photos)
    exported = args.exported or folder / f"exported-{name}"
    if not args.exported:
        export(exported, setting.encoder, setting.side)
    variants = ["float32"]
    if (exported / "model-int8.onnx").exists() and "variant" in Settings.model_fields:
        variants.append("int8")
    runs: dict[str, Callable[[], Window]] = {}
    with ExitStack() as stack:
        publish(database_url, folder, exported, alias="production")
        for variant in variants:
            file = "model.onnx" if variant == "float32" else f"model-{variant}.onnx"
            embedder = Embedder(exported / file, num_threads=0, has_lanes=True)
            ready = inputs(contents[:BATCH], embedder.preprocessing)
            runs[f"{variant} runtime"] = partial(in_process, partial(_embed, embedder, ready), args.seconds)
            for form, run in InProcess(embedder, contents).forms(args.seconds).items():
                runs[f"{variant} inprocess {form}"] = run
            choice = {"variant": variant} if len(variants) > 1 else {}
            server = stack.enter_context(running_api(folder, database_url, max_wait_seconds="600", **choice))
            for clients in CLIENTS:
                runs[f"{variant} service {clients}"] = partial(
                    over_http, server, folder / f"images-{name}", clients, args.seconds
                )
            for peer in installed(PEERS):
                server = stack.enter_context(running_endpoint(peer, folder, exported / file))
                runs[f"{variant} {peer} 16"] = partial(
                    over_http_alone, server, folder / f"images-{name}", 16, args.seconds
                )
        naive = stack.enter_context(running_endpoint("naive", folder, exported))
        runs["naive 16"] = partial(over_http_alone, naive, folder / f"images-{name}", 16, args.seconds)
        return _in_turn(name, runs, args.rounds)


def installed(modules: Sequence[str]) -> list[str]:
    """Those that can be imported."""
    return [module for module in modules if find_spec(module)]


def _embed(embedder: Embedder, images: NDArray[np.uint8]) -> int:
    return len(embedder.embed(images))


def _in_turn(name: str, runs: dict[str, Callable[[], Window]], rounds: int) -> dict[str, list[Window]]:
    windows: dict[str, list[Window]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            window = run()
            windows[key].append(window)
            print(f"{name:14} {key:22}", " ".join(f"{k} {v:.4g}" for k, v in asdict(window).items()), flush=True)
    return windows


def ratio(windows: dict[str, list[Window]], over: str, under: str, *, by: str = "per_cpu_second") -> float | None:
    """The median over rounds of one rate over another; None where one was not measured."""
    if over not in windows or under not in windows:
        return None
    pairs = zip(windows[over], windows[under], strict=True)
    found: float = statistics.median(getattr(a, by) / getattr(b, by) for a, b in pairs)
    return found


def over_inprocess(windows: dict[str, list[Window]], variant: str, *, by: str = "per_cpu_second") -> float | None:
    """The service over the form without HTTP that it compares worst with."""
    forms = [key for key in windows if key.startswith(f"{variant} inprocess")]
    ratios = [ratio(windows, f"{variant} service 16", form, by=by) for form in forms]
    return min((found for found in ratios if found is not None), default=None)


def summary(windows: dict[str, list[Window]]) -> dict[str, float | None]:
    """The ratios of a setting."""
    served = windows["float32 service 16"]
    return {
        "float32_over_inprocess": over_inprocess(windows, "float32"),
        "float32_over_inprocess_wall": over_inprocess(windows, "float32", by="per_second"),
        "float32_over_runtime": ratio(windows, "float32 service 16", "float32 runtime"),
        "float32_over_naive": ratio(windows, "float32 service 16", "naive 16"),
        "int8_over_inprocess": over_inprocess(windows, "int8"),
        "int8_over_float32": ratio(windows, "int8 service 16", "float32 service 16"),
        "int8_over_naive": ratio(windows, "int8 service 16", "naive 16"),
        **{
            f"{variant}_over_{peer}": ratio(windows, f"{variant} service 16", f"{variant} {peer} 16")
            for variant in ("float32", "int8")
            for peer in PEERS
        },
        "p99_over_p50": statistics.median(window.p99_seconds / window.p50_seconds for window in served),
    }


def headlines(summaries: dict[str, dict[str, float | None]]) -> dict[str, float | None]:
    """The least favourable of the settings at 224 pixels, or of those that were measured."""
    large = [s for name, s in summaries.items() if SETTINGS[name].side >= 64] or list(summaries.values())
    found: dict[str, float | None] = {}
    for key in large[0]:
        values = [value for s in large if (value := s[key]) is not None]
        worst = max if key == "p99_over_p50" else min
        found[key] = round(worst(values), 3) if values else None
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a tar of photographs")
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--exported", type=Path, help="the folder of an exported model; with --only")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simclr-serve-") as name, running_database(Path(name)) as database_url:
        names = [args.only] if args.only else list(SETTINGS)
        measured = {setting: measure(setting, args, Path(name), database_url) for setting in names}
    summaries = {setting: summary(windows) for setting, windows in measured.items()}
    result = {
        **headlines(summaries),
        "settings": summaries,
        "windows": {
            s: {key: [asdict(w) for w in ws] for key, ws in windows.items()} for s, windows in measured.items()
        },
        "machine": device_name(),
        "versions": versions("onnxruntime", "pillow", "fastapi", "uvicorn", *installed(PEERS)),
        "seconds": args.seconds,
        "rounds": args.rounds,
    }
    print(json.dumps(result))
    sys.exit(int(_misses_a_floor(result)))


def _misses_a_floor(result: dict[str, float | None]) -> bool:
    too_low = [name for name, floor in FLOORS.items() if (value := result[name]) is not None and value < floor]
    return bool(too_low) or (result["p99_over_p50"] or 0.0) > MAX_P99_OVER_P50


if __name__ == "__main__":
    main()
