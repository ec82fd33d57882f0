import hashlib
import http.server
import io
import json
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from trainer import sample_data
from trainer.archive import read_members
from trainer.archive_limits import ArchiveLimits
from trainer.drawn_images import SHAPES
from trainer.layout import classify
from trainer.sample_data import Classes, cifar10, generated, is_online, write_archive

LIMITS = ArchiveLimits(max_bytes=2**28, max_member_bytes=2**20, max_ratio=100, max_entries=10_000)


def run(*arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON line that the command prints."""
    command = [sys.executable, "-m", "trainer.sample_data", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output)  # type: ignore[no-any-return]


def test_the_generated_archive_is_an_even_labelled_data_set(tmp_path: Path) -> None:
    """The archive has the asked numbers of PNG files, spread over ten classes and two splits, none twice."""
    out = tmp_path / "sample.tar.gz"
    line = run(str(out), "--generated", "--num-train", "100", "--num-test", "35")
    assert line == {"source": "generated", "num_train": 100, "num_test": 35}
    members = dict(read_members(out, LIMITS))
    places = classify(list(members))
    counts = {(split, name): 0 for split in ("train", "test") for name in SHAPES}
    for place in places.values():
        counts[place.split, str(place.class_name)] += 1
    assert [counts["train", name] for name in SHAPES] == [10] * 10
    assert [counts["test", name] for name in SHAPES] == [4] * 5 + [3] * 5
    assert len(set(members.values())) == 135


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two archives of the same seed are equal byte by byte; another seed gives no image in common."""
    for number in (1, 2):
        write_archive(tmp_path / f"{number}", {"train": generated(30, seed=0)})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    first, second = ({image.tobytes() for images in generated(30, seed=s).values() for image in images} for s in (0, 1))
    assert not first & second


def features_accuracy(features: Any) -> float:
    """Test accuracy of logistic regression on standardised features of the generated set."""
    train, test = generated(1500, seed=0), generated(500, seed=1)

    def table(classes: Classes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = np.repeat(np.arange(10), [len(images) for images in classes.values()])
        return np.stack([features(image) for images in classes.values() for image in images]), labels

    (x, y), (x_test, y_test) = table(train), table(test)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
    model = LogisticRegression(C=0.01, max_iter=300).fit((x - mean) / deviation, y)
    return float(model.score((x_test - mean) / deviation, y_test))


def pixels(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Averages of 2 x 2 pixels."""
    return image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)).ravel()


def colors(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A histogram of 16 bins a channel."""
    return np.concatenate([np.histogram(image[..., c], 16, (0, 256))[0] for c in range(3)]).astype(float)


def spectrum(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Log magnitudes of the low frequencies of the gray image: its form, wherever it lies and whatever its colours."""
    gray = image.mean(axis=2) / 255
    window = np.hanning(32)[:, None] * np.hanning(32)
    magnitudes = np.abs(np.fft.rfft2((gray - gray.mean()) * window))
    rows = [*range(10), *range(-10, 0)]
    return np.log(magnitudes[rows, :10] + 0.1).ravel()


def test_only_form_tells_the_classes_apart() -> None:
    """A linear classifier fails on pixels and colours and does well on the spectrum: there is something to learn."""
    assert features_accuracy(pixels) < 0.3
    assert features_accuracy(colors) < 0.2
    assert features_accuracy(spectrum) > 0.55


@pytest.fixture
def cifar10_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of a CIFAR-10 of 20 images in its own format, and torchvision pointed at it; a folder to load to."""
    torchvision = pytest.importorskip("torchvision")
    data = torchvision.datasets.CIFAR10
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
    names = [f"class{i}" for i in range(10)]
    files = {
        "batch": pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(20)]}),
        "meta": pickle.dumps({"label_names": names}),
    }
    with tarfile.open(tmp_path / data.filename, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{data.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(data, "url", f"http://127.0.0.1:{server.server_port}/{data.filename}")
        monkeypatch.setattr(data, "tgz_md5", hashlib.md5((tmp_path / data.filename).read_bytes()).hexdigest())
        monkeypatch.setattr(data, "train_list", [["batch", sums["batch"]]])
        monkeypatch.setattr(data, "test_list", [["batch", sums["batch"]]])
        monkeypatch.setattr(data, "meta", {"filename": "meta", "key": "label_names", "md5": sums["meta"]})
        yield tmp_path / "loaded"
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torchvision's own unpacking, from Python 3.12 on
def test_cifar10_is_downloaded_once_and_cut_evenly(cifar10_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first images of each class come from torchvision's download; a second time they come from the folder."""
    first = cifar10(15, cifar10_server, train=True)
    assert [len(images) for images in first.values()] == [2] * 5 + [1] * 5
    assert list(first) == [f"class{i}" for i in range(10)]
    original = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
    expected = original[13].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(first["class3"][1], expected)
    monkeypatch.setattr(sample_data, "is_online", lambda url: False)
    assert cifar10(15, cifar10_server, train=True).keys() == first.keys()


def test_without_a_network_images_are_drawn(tmp_path: Path) -> None:
    """Where CIFAR-10's server can't be reached the command draws images and says so."""
    out = tmp_path / "sample.tar.gz"
    line = run(str(out), "--num-train", "20", "--num-test", "10", https_proxy="http://127.0.0.1:9")
    assert line == {"source": "generated", "num_train": 20, "num_test": 10}
    assert len(list(read_members(out, LIMITS))) == 30


def test_a_silent_host_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that accepts the connection and says nothing counts as no network after CONNECT_SECONDS."""
    monkeypatch.setattr(sample_data, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_online(f"http://127.0.0.1:{server.getsockname()[1]}/")
