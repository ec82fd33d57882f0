"""The whole product over HTTP: one running `simclr up`, real processes, drawn images."""

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from models.export import load_model
from models.preprocess import ImageLimits, decode, to_input
from service.cli import app
from service.client import JSON, ApiError, Client, JobFailed
from service.local_files import LocalImage, read_images
from tests.models.image_files import encode, noise
from tests.stack import Stack, environment
from tests.waiting import wait_until

RECIPE: JSON = {
    "preset": "cpu-small",
    "batch_size": 64,
    "schedule": {"epochs": 40, "warmup_epochs": 1},
    "preprocessing": {"image_size": 16},
}
FOREVER: JSON = {**RECIPE, "schedule": {"epochs": 100_000, "warmup_epochs": 0}}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.base_url) as client:
        yield client


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 drawn images to train on and 100 to test with, of ten classes."""
    path = tmp_path_factory.mktemp("drawn") / "drawn.tar.gz"
    command = [sys.executable, "-m", "trainer.sample_data", str(path), "--generated"]
    subprocess.run([*command, "--num-train", "300", "--num-test", "100"], check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def gallery(archive: Path) -> list[LocalImage]:
    return [image for image in read_images(archive) if image.is_test]


@pytest.fixture(scope="module")
def dataset(client: Client, archive: Path) -> JSON:
    created = client.create_dataset(archive)
    client.wait_for_job(created["job_id"])
    return client.get(f"/v1/datasets/{created['id']}")


@pytest.fixture(scope="module")
def pretrained(client: Client, dataset: JSON) -> JSON:
    """A pretraining job that succeeded."""
    return client.wait_for_job(client.submit("pretrain", dataset_id=dataset["id"], recipe=RECIPE)["id"])


@pytest.fixture(scope="module")
def model_id(client: Client, pretrained: JSON) -> str:
    """The pretrained model, in production."""
    found: str = pretrained["result"]["model_id"]
    client.set_alias("production", found)
    return found


@pytest.fixture(scope="module")
def stored(client: Client, model_id: str, gallery: list[LocalImage]) -> list[JSON]:
    """The test images in the collection `drawn`."""
    files = [(image.path.name, image.content) for image in gallery]
    return client.add_images(files, collection="drawn", labels=[image.label for image in gallery])


def test_the_data_set_is_counted(dataset: JSON) -> None:
    """Splits, classes and counts are those of the archive."""
    assert dataset["status"] == "ready"
    assert (dataset["num_images"], dataset["num_rejected"]) == (400, 0)
    assert len(dataset["classes"]) == 10
    assert dataset["splits"]["train"]["per_class"] == [30] * 10
    assert dataset["splits"]["test"]["num_images"] == 100


def test_pretraining_reports_its_progress_and_its_metrics(client: Client, pretrained: JSON) -> None:
    """300 images in batches of 64 are 4 steps an epoch; the history ends with the last step and a finite loss."""
    assert (pretrained["progress"]["step"], pretrained["progress"]["steps"]) == (160, 160)
    metrics = client.get(f"/v1/jobs/{pretrained['id']}/metrics")
    assert metrics["step"][-1] == 160
    assert all(np.isfinite(metrics["loss"]))
    assert pretrained["result"]["images_per_second"] > 0


def test_a_model_is_published_with_its_parity(client: Client, model_id: str) -> None:
    """ONNX Runtime's h and z equal the network's, and the recipe is kept with the model."""
    model = client.get(f"/v1/models/{model_id}")
    assert model["parity_cosine"] > 0.9999
    assert list(model["layers"]) == ["stem", "layer1.0", "layer2.0", "layer3.0", "h", "g1", "z"]
    assert {name: variant["status"] for name, variant in model["variants"].items()} == dict.fromkeys(
        ("float32", "float16", "int8"), "published"
    )
    assert 0.99 < model["variants"]["int8"]["cosine"]["h"]["min"] < model["variants"]["float16"]["cosine"]["h"]["min"]
    assert model["recipe"]["loss"]["temperature"] == 0.1
    onnx_files = {"model.onnx", "model-float16.onnx", "model-int8.onnx"}
    assert set(model["files"]) == {*onnx_files, "encoder.pt", "model.json"}


@pytest.mark.parametrize("kind", ["linear_probe", "knn_probe"])
def test_probes_measure_the_model(client: Client, dataset: JSON, model_id: str, kind: str) -> None:
    """A probe's top-1 is over the whole test split, better than chance, and kept with the model."""
    job = client.wait_for_job(client.submit(kind, dataset_id=dataset["id"], model_id=model_id)["id"])
    result = job["result"]
    assert (result["num_train"], result["num_test"], result["test_split"]) == (300, 100, "test")
    assert result["top1"] > 0.15  # chance is 0.1
    assert result["transfer"] is False
    assert client.get(f"/v1/models/{model_id}")["probes"][kind]["top1"] == result["top1"]


def test_one_job_compares_all_layers(client: Client, dataset: JSON, model_id: str) -> None:
    """A sweep has a row for each layer, and leaves the model's own figures as they were."""
    probes = client.get(f"/v1/models/{model_id}")["probes"]
    recipe = {"num_l2_values": 1, "l2_max": 1.0, "num_view_images": 50}
    job = client.submit("layer_sweep", dataset_id=dataset["id"], model_id=model_id, recipe=recipe)
    rows = client.wait_for_job(job["id"])["result"]["layers"]
    assert [row["layer"] for row in rows] == ["stem", "layer1.0", "layer2.0", "layer3.0", "h", "g1", "z"]
    [h] = [row for row in rows if row["layer"] == "h"]
    assert h["size"] == 128
    assert h["linear_top1"] > 0.15  # chance is 0.1
    assert 1 < h["effective_rank"] < 99  # of 100 images
    assert client.get(f"/v1/models/{model_id}")["probes"] == probes


def test_transformations_are_read_off_h_and_z(client: Client, dataset: JSON, model_id: str) -> None:
    """A row for each transformation in h and z; that an image is gray is seen in h above chance."""
    job = client.submit(
        "transform_probe", dataset_id=dataset["id"], model_id=model_id, recipe={"num_l2_values": 1, "l2_max": 1.0}
    )
    result = client.wait_for_job(job["id"])["result"]
    assert (result["num_train"], result["num_test"]) == (300, 100)
    names = ("color", "rotation", "noise", "sobel")
    assert [(row["transformation"], row["layer"]) for row in result["rows"]] == [(n, x) for n in names for x in "hz"]
    assert result["rows"][0]["confidence_interval"][0] > result["rows"][0]["chance"]


@pytest.fixture(scope="module")
def finetuned(client: Client, dataset: JSON, model_id: str) -> JSON:
    """A job that trained the model on, on two labels in three."""
    recipe = {"label_fraction": 0.67, "epochs": 4, "batch_size": 50, "learning_rate": 0.5}
    job = client.submit("finetune", dataset_id=dataset["id"], model_id=model_id, recipe=recipe)
    return client.wait_for_job(job["id"])


def test_a_fine_tuned_model_is_one_of_its_own(client: Client, model_id: str, finetuned: JSON) -> None:
    """A model beside the first one, with its recipe and its layers, from the job; scored on the whole test split."""
    result = finetuned["result"]
    assert (result["num_labels"], result["num_train"], result["num_test"]) == (200, 300, 100)
    assert result["transfer"] is False
    first, second = (client.get(f"/v1/models/{id_}") for id_ in (model_id, result["model_id"]))
    assert second["job_id"] == finetuned["id"]
    assert (second["recipe"], second["layers"]) == (first["recipe"], first["layers"])
    assert second["parity_cosine"] > 0.9999


def test_classes_are_those_that_were_learned(
    client: Client, stack: Stack, finetuned: JSON, gallery: list[LocalImage], tmp_path: Path
) -> None:
    """Over HTTP the test images are classified as well as the job says, and the command line shows the same classes."""
    files = [(image.path.name, image.content) for image in gallery]
    items = client.classify(files, probe=finetuned["id"], top_k=1)
    right = [item["classes"][0]["name"] == image.label for item, image in zip(items, gallery, strict=True)]
    assert np.mean(right) == pytest.approx(finetuned["result"]["top1"], abs=0.011)  # one of 100 may be a tie
    path = tmp_path / "query.png"
    path.write_bytes(gallery[0].content)
    shown = simclr_text(stack, "classify", str(path), "--probe", finetuned["id"], "--top-k", "1")
    assert items[0]["classes"][0]["name"] in shown


def test_a_model_is_probed_on_other_classes(client: Client, model_id: str, tmp_path: Path) -> None:
    """Images of other classes and another size: the result says that it is a transfer, and its classifier serves."""
    levels = {"dark": 40, "light": 200}
    folder = tmp_path / "other"
    files = []
    for split, name, i in itertools.product(("train", "test"), levels, range(6)):
        path = folder / split / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        gray = np.random.default_rng(i + 10 * (split == "test")).normal(levels[name], 30, (20, 28, 3))
        Image.fromarray(gray.clip(0, 255).astype(np.uint8)).save(path)
        files += [(name, path.read_bytes())] * (split == "test")
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    dataset = client.create_dataset(archive)
    client.wait_for_job(dataset["job_id"])
    job = client.submit("linear_probe", dataset_id=dataset["id"], model_id=model_id, recipe={"num_l2_values": 3})
    result = client.wait_for_job(job["id"])["result"]
    assert result["transfer"] is True
    assert (result["classes"], result["num_train"], result["num_test"]) == (["dark", "light"], 12, 12)
    assert result["top1"] > 0.7
    items = client.classify([("a.png", content) for _, content in files], probe=job["id"], top_k=5)
    right = [item["classes"][0]["name"] == name for item, (name, _) in zip(items, files, strict=True)]
    assert np.mean(right) == pytest.approx(result["top1"])
    assert sum(likely["probability"] for likely in items[0]["classes"]) == pytest.approx(1)


def test_stored_images_find_themselves_first(client: Client, stored: list[JSON], gallery: list[LocalImage]) -> None:
    """A search with the bytes of a stored image has that image on top, with cosine 1 and its label."""
    assert {item["status"] for item in stored} == {"created"}
    image = gallery[7]
    hits = client.search_by_image("query.png", image.content, collection="drawn", k=5)
    assert hits[0]["id"] == stored[7]["id"]
    assert hits[0]["label"] == image.label
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_neighbours_are_those_of_the_embeddings(client: Client, stored: list[JSON], gallery: list[LocalImage]) -> None:
    """`/neighbors` equals cosine similarity in NumPy over the embeddings that the API gives."""
    files = [("files", (image.path.name, image.content)) for image in gallery]
    response = client.request("POST", "/v1/embeddings", files=files, headers={"Accept": "application/x-npy"})
    h = np.load(io.BytesIO(response.content))
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    similarity = h[3] @ h.T
    similarity[3] = -1
    best = np.argsort(-similarity)[:10]
    found = client.get(f"/v1/images/{stored[3]['id']}/neighbors", k=10, collection="drawn")["items"]
    np.testing.assert_allclose([hit["score"] for hit in found], similarity[best], atol=1e-5)
    assert found[0]["id"] == stored[best[0]]["id"]


def test_a_stored_embedding_is_that_of_the_bytes(client: Client, stored: list[JSON], gallery: list[LocalImage]) -> None:
    """GET of an image's embedding equals embedding the same bytes anew."""
    embedding = client.get(f"/v1/images/{stored[0]['id']}/embedding")["embedding"]
    fresh = client.request("POST", "/v1/embeddings", files=[("files", ("a.png", gallery[0].content))]).json()
    np.testing.assert_allclose(embedding, fresh["data"][0]["embedding"], rtol=1e-4, atol=1e-5)


def test_the_served_encoder_equals_the_trained_one(
    client: Client, model_id: str, gallery: list[LocalImage], tmp_path: Path
) -> None:
    """HTTP's h equals the PyTorch encoder's on the same bytes, downloaded and run here."""
    for name in ("encoder.pt", "model.json"):
        (tmp_path / name).write_bytes(client.request("GET", f"/v1/models/{model_id}/files/{name}").content)
    network, recipe = load_model(tmp_path)
    limits = ImageLimits(max_bytes=10**7, max_pixels=10**7, max_side=10**4)
    pixels = np.stack([to_input(decode(i.content, limits).pixels, recipe.preprocessing) for i in gallery])
    with torch.inference_mode():
        expected = network.encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).numpy()
    files = [("files", (image.path.name, image.content)) for image in gallery]
    response = client.request("POST", "/v1/embeddings", files=files, headers={"Accept": "application/x-npy"})
    h = np.load(io.BytesIO(response.content))
    cosine = (h * expected).sum(1) / np.linalg.norm(h, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.99999


def test_an_export_makes_a_model_s_files_anew(client: Client, dataset: JSON, model_id: str) -> None:
    """The model has the variants that the job was asked for, of the same weights, and goes on serving, any layer."""
    before = client.get(f"/v1/models/{model_id}")
    recipe = {"variants": ["int8"]}
    job = client.submit("export", dataset_id=dataset["id"], model_id=model_id, recipe=recipe)
    result = client.wait_for_job(job["id"])["result"]
    model = client.get(f"/v1/models/{model_id}")
    assert set(model["files"]) == {"model.onnx", "model-int8.onnx", "encoder.pt", "model.json"}
    assert model["variants"].keys() == result["model"]["variants"].keys() == {"float32", "int8"}
    assert model["files"]["encoder.pt"] == before["files"]["encoder.pt"]
    assert model["probes"] == before["probes"]
    form = {"files": [("files", ("a.png", encode(noise(16, 16), "png")))], "data": {"layer": "layer2.0"}}
    answer = client.request("POST", "/v1/embeddings", **form)
    assert answer.headers["X-Model-Variant"] == answer.json()["variant"] == "float32"
    assert len(answer.json()["data"][0]["embedding"]) == 32


def test_a_second_model_is_indexed_and_searched_beside_the_first(
    client: Client, dataset: JSON, stored: list[JSON], gallery: list[LocalImage]
) -> None:
    """The pixels baseline goes the same way as a trained model: job, model, index, search."""
    recipe = {
        **RECIPE,
        "encoder": {"name": "pixels"},
        "head": {"num_layers": 0},
        "schedule": {"epochs": 0, "warmup_epochs": 0},
    }
    job = client.wait_for_job(client.submit("pretrain", dataset_id=dataset["id"], recipe=recipe)["id"])
    pixels_id = job["result"]["model_id"]
    indexed = client.wait_for_job(client.submit("index", model_id=pixels_id)["id"])
    assert indexed["result"]["num_indexed"] >= len(stored)
    hits = client.search(image_id=stored[5]["id"], model=pixels_id, collection="drawn", k=3)["items"]
    decoded = np.stack(
        [np.asarray(Image.open(io.BytesIO(i.content)).convert("RGB").resize((16, 16), 3)) for i in gallery]
    )
    flat = decoded.reshape(len(decoded), -1).astype(np.float64)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    similarity = flat[5] @ flat.T
    similarity[5] = -1
    np.testing.assert_allclose([hit["score"] for hit in hits], np.sort(similarity)[::-1][:3], atol=1e-4)


def test_events_stream_while_the_job_runs_and_a_cancel_kills_it(client: Client, stack: Stack, dataset: JSON) -> None:
    """Server-sent events arrive live; a cancel ends the job within seconds and its process is gone."""
    job_id = client.submit("pretrain", dataset_id=dataset["id"], recipe=FOREVER)["id"]
    seen: list[dict[str, Any]] = []

    def listen() -> None:
        headers = {"Accept": "text/event-stream"}
        with httpx.stream("GET", f"{stack.base_url}/v1/jobs/{job_id}/events", headers=headers, timeout=60) as response:
            seen.extend(json.loads(line[5:]) for line in response.iter_lines() if line.startswith("data:"))

    listener = threading.Thread(target=listen)
    listener.start()
    wait_until(lambda: (client.get(f"/v1/jobs/{job_id}")["progress"] or {}).get("step", 0) > 0, timeout_seconds=60)
    running = [p for p in psutil.process_iter(["cmdline"]) if job_id in " ".join(p.info["cmdline"] or ())]
    assert running
    cancelled_at = time.monotonic()
    client.request("POST", f"/v1/jobs/{job_id}/cancel")
    with pytest.raises(JobFailed, match="cancelled"):
        client.wait_for_job(job_id)
    assert time.monotonic() - cancelled_at < 10
    listener.join(timeout=30)
    assert not listener.is_alive()
    assert [event["data"]["status"] for event in seen if event["type"] == "status"] == [
        "queued",
        "running",
        "cancelling",
        "cancelled",
    ]
    assert any(event["type"] == "metrics" for event in seen)
    wait_until(lambda: not any(p.is_running() for p in running), timeout_seconds=10)


def test_a_job_whose_worker_is_killed_goes_on(client: Client, stack: Stack, dataset: JSON) -> None:
    """Kill -9 of the worker: the supervisor starts another, and the job goes on from its checkpoint to one success."""
    recipe = {**RECIPE, "schedule": {"epochs": 40, "warmup_epochs": 1}, "checkpoint_every_seconds": 1}
    job_id = client.submit("pretrain", dataset_id=dataset["id"], recipe=recipe)["id"]
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}/checkpoints")["items"] != [], timeout_seconds=90)
    psutil.Process(stack.pids()["worker"]).kill()
    job = client.wait_for_job(job_id)
    assert job["attempt"] == 2
    events = client.get(f"/v1/jobs/{job_id}/events", limit=500)["items"]
    assert [e["data"]["status"] for e in events if e["type"] == "status"].count("succeeded") == 1
    first_of_second = next(e for e in events if e["type"] == "metrics" and e["attempt"] == 2)
    assert first_of_second["data"]["step"] > 1


def test_an_ablation_trains_and_probes_its_grid(client: Client, dataset: JSON) -> None:
    """Two temperatures, a training and a probe each: a table of top-1 by temperature, and its parts by their parent."""
    recipe = {
        "base": {**RECIPE, "schedule": {"epochs": 1, "warmup_epochs": 0}},
        "grid": {"loss.temperature": [0.1, 1.0]},
        "probe": {"num_l2_values": 3},
    }
    ablation = client.submit("ablation", dataset_id=dataset["id"], recipe=recipe)
    job = client.wait_for_job(ablation["id"])
    assert job["progress"] == {"step": 4, "steps": 4}
    assert [cell["values"] for cell in job["result"]["cells"]] == [{"loss.temperature": t} for t in (0.1, 1.0)]
    parts = {part["id"]: part for part in client.pages("/v1/jobs", parent_id=ablation["id"])}
    for cell in job["result"]["cells"]:
        (run,) = cell["runs"]
        assert cell["mean"] == run["top1"] == parts[run["probe_job_id"]]["result"]["top1"]
        assert parts[run["job_id"]]["recipe"]["loss"]["temperature"] == cell["values"]["loss.temperature"]
        assert 0 <= run["measures"]["contrastive_accuracy"] <= 1
    assert len(parts) == 4


def test_every_kind_of_job_has_a_report(client: Client, pretrained: JSON) -> None:
    """What the jobs of this service measured so far is drawn on their pages, but for those that measure nothing."""
    newest = {job["kind"]: job["id"] for job in client.pages("/v1/jobs", status="succeeded")}
    assert newest.keys() >= {"ingest", "pretrain"}
    for kind, job_id in newest.items():
        page = client.report(job_id, "html").decode()
        assert ("data:image/png;base64," in page) == (kind not in {"ingest", "index", "export"}), kind


def test_what_is_wrong_is_named(client: Client, dataset: JSON) -> None:
    """A recipe that can't be trained is refused before it is queued, by field and by what is allowed."""
    with pytest.raises(ApiError, match=r"recipe\.batch_size: at most 300") as failure:
        client.submit("pretrain", dataset_id=dataset["id"], recipe={**RECIPE, "batch_size": 301})
    assert (failure.value.status, failure.value.code) == (422, "invalid")


def test_a_proxy_is_not_asked_for_this_machine(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a company's proxy the client still reaches a service on the same machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(stack.base_url) as client:
        assert client.get("/healthz") == {"status": "ok"}


def test_the_command_line_shows_what_the_api_has(
    stack: Stack, client: Client, dataset: JSON, pretrained: JSON, model_id: str, stored: list[JSON]
) -> None:
    """Each listing names the thing that the API has, each `show` prints it, a watched job ends with its result."""
    job_id = pretrained["id"]
    assert simclr(stack, "datasets", "show", dataset["id"])["num_images"] == 400
    assert simclr(stack, "jobs", "show", job_id)["status"] == "succeeded"
    assert simclr(stack, "models", "show", model_id)["job_id"] == job_id
    assert simclr(stack, "models", "promote", model_id)["model_id"] == model_id
    for group, id_ in (("datasets", dataset["id"]), ("jobs", job_id), ("models", model_id)):
        assert id_ in simclr_text(stack, group, "list")
    assert stored[-1]["id"] in simclr_text(stack, "images", "list", "--collection", "drawn", "--limit", "100")
    assert f'"model_id": "{model_id}"' in simclr_text(stack, "jobs", "watch", job_id)
    (node,) = client.get("/v1/system")["nodes"]
    assert re.search(rf"{node['name']} .* yes .* 1/1 cpu, .* 2/2 light", simclr_text(stack, "nodes"))


def test_the_command_line_adds_images(stack: Stack, client: Client, model_id: str, archive: Path) -> None:
    """`simclr images add` uploads an archive with its folders as labels."""
    shown = simclr_text(stack, "images", "add", str(archive), "--collection", "added")
    assert "400 images in 'added', 0 refused" in shown
    images = list(client.pages("/v1/images", collection="added", limit=100))
    assert len(images) == 400
    assert len({image["label"] for image in images}) == 10


def test_the_command_line_says_what_is_wrong(stack: Stack) -> None:
    """A recipe that is no JSON and a service that isn't there are told in one line each, with status 1."""
    broken = CliRunner().invoke(app, ["jobs", "start", "pretrain", "--recipe", "{", "--url", stack.base_url])
    assert broken.exit_code == 1
    assert broken.output.startswith("--recipe: JSON such as")
    no_nodes = ["jobs", "start", "pretrain", "--resources", '{"nodes": {"min": 0}}', "--url", stack.base_url]
    refused = CliRunner().invoke(app, no_nodes)
    assert "resources.nodes.min" in refused.output
    away = CliRunner().invoke(app, ["jobs", "list", "--url", "http://127.0.0.1:1"])
    assert away.exit_code == 1
    assert away.output.startswith("no service answers at http://127.0.0.1:1")
    assert "start one with `simclr up`" in away.output


def simclr_text(stack: Stack, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--url", stack.base_url])
    assert result.exit_code == 0, result.output
    return result.output


def simclr(stack: Stack, *arguments: str) -> JSON:
    shown: JSON = json.loads(simclr_text(stack, *arguments))
    return shown


@pytest.fixture(autouse=True)
def _wide_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.commands.output.console", Console(width=250))


def test_the_command_line_finds_the_same(
    stack: Stack, stored: list[JSON], gallery: list[LocalImage], tmp_path: Path
) -> None:
    """`simclr search IMAGE` shows the stored image first."""
    (tmp_path / "query.png").write_bytes(gallery[2].content)
    command = [sys.executable, "-m", "service.cli", "search", "query.png", "--collection", "drawn", "--k", "3"]
    shown = subprocess.run(
        [*command, "--url", stack.base_url],
        cwd=tmp_path,
        env={**environment(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert stored[2]["id"] in shown.splitlines()[3]
