"""Classification over HTTP against the trainer's own head."""

import base64
import shutil
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.classifier import HEAD_FILE, Classifier
from models.config import LinearProbeRecipe, PretrainRecipe
from models.export import Sample, export_model
from service.core import jobs
from service.core.db import Database
from service.core.heads import head_folder
from service.core.ids import new_id
from service.core.storage import LocalStorage
from service.core.tables import Job
from tests.models.image_files import encode
from tests.service.conftest import begin
from tests.small_models import publish as publish_model
from tests.trainer.probes.run_folders import SIDE, noisy_images, probe_run, untrained
from trainer import publish
from trainer.probes.features import probe_data
from trainer.probes.linear import run_linear_probe, train_head
from trainer.run import RunFolder, RunSpec

CLASSES = ["ant", "bee", "cat"]
LABELS = [0, 1, 2] * 30
NUM_TRAIN = 60
FIT = {"num_l2_values": 2, "l2_min": 1e-2, "l2_max": 1.0}
RESNET = PretrainRecipe.model_validate(
    {
        "preprocessing": {"image_size": SIDE},
        "encoder": {"name": "resnet10", "width": 0.25},
        "head": {"output_size": 8},
    }
)
IMAGES = noisy_images(LABELS, noise=60, seed=5)
TEST_FILES = [encode(image, "png") for image in IMAGES[NUM_TRAIN:]]


class Probed(NamedTuple):
    """A model, and a probe of one of its layers."""

    model: RunFolder  # whose output is the exported model
    run: RunFolder
    result: dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("model"))
    run.create(RunSpec(kind="pretrain", recipe=RESNET.model_dump()))
    export_model(untrained(RESNET), RESNET, Sample(IMAGES[:4], IMAGES[:4]), run.output, ["float32"])
    return run


@pytest.fixture(scope="module", params=["h", "z"])
def probed(request: pytest.FixtureRequest, exported: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    run = probe_run(
        tmp_path_factory.mktemp("probe"),
        "linear_probe",
        {**FIT, "layer": request.param},
        images=IMAGES,
        labels=LABELS,
        splits=["train"] * NUM_TRAIN + ["test"] * (len(LABELS) - NUM_TRAIN),
        classes=CLASSES,
        model=RESNET,
    )
    shutil.copytree(exported.output, run.model, dirs_exist_ok=True)
    return Probed(exported, run, run_linear_probe(run))


def succeed(database: Database, storage: LocalStorage, run: RunFolder, result: dict[str, Any], **fields: Any) -> Job:
    """Publish what a run left, as a job of its own."""
    spec = run.spec()
    with database.transaction() as session:
        job_id = jobs.submit(session, kind=spec.kind, recipe=spec.recipe, **fields).id
        job = begin(session, job_id)
    record = publish.upload(storage, job, run, result)
    with database.transaction() as session:
        return publish.finish(session, job.id, job.attempt, record)


def publish_both(database: Database, storage: LocalStorage, probed: Probed) -> tuple[str, str]:
    """The ids of the model and of the probe's job."""
    model_id = (succeed(database, storage, probed.model, {}).result or {})["model_id"]
    return model_id, succeed(database, storage, probed.run, probed.result, model_id=model_id).id


def classify(api: httpx.Client, files: list[bytes], **form: Any) -> httpx.Response:
    return api.post("/v1/classify", files=[("files", ("a.png", content)) for content in files], data=form)


def trainers_probabilities(run: RunFolder) -> NDArray[np.float64]:
    """The softmax of the trained head's logits on the trainer's own features of the test images."""
    recipe = LinearProbeRecipe.model_validate(run.spec().recipe)
    data = probe_data(run, recipe.layer)
    head, _, _ = train_head(data.train, recipe, run)
    with torch.inference_mode():
        probabilities: NDArray[np.float64] = head.logits(data.test.h).double().softmax(dim=1).numpy()
    return probabilities


def test_the_service_classifies_as_the_trainer_does(
    api: httpx.Client, database: Database, storage: LocalStorage, probed: Probed
) -> None:
    """Classes and probabilities are those of the trained head, likeliest first, and their accuracy is its top-1."""
    model_id, probe_id = publish_both(database, storage, probed)
    response = classify(api, TEST_FILES, probe=probe_id)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model"], answer["probe"], answer["layer"]) == (model_id, probe_id, probed.result["layer"])
    expected = trainers_probabilities(probed.run)
    assert [item["index"] for item in answer["data"]] == list(range(len(TEST_FILES)))
    for item, probabilities in zip(answer["data"], expected, strict=True):
        found = [likely["probability"] for likely in item["classes"]]
        assert found == sorted(found, reverse=True)
        by_name = {likely["name"]: likely["probability"] for likely in item["classes"]}
        np.testing.assert_allclose([by_name[name] for name in CLASSES], probabilities, atol=1e-3)
    taken_for = [CLASSES.index(item["classes"][0]["name"]) for item in answer["data"]]
    accuracy = np.mean(np.array(taken_for) == LABELS[NUM_TRAIN:])
    assert accuracy == pytest.approx(probed.result["top1"])
    assert 0.4 < accuracy < 1, "the case is neither hopeless nor trivial"
    stages = [part.split(";")[0] for part in response.headers["server-timing"].split(", ")]
    assert stages == ["turn", "decode", "queue", "compute", "total"]


def add_probe(
    database: Database, storage: LocalStorage, layer: str = "h", *, darkest: str = "black", **result: Any
) -> tuple[str, str]:
    """The ids of a `pixels` model and of a job with a classifier of it, which knows black, gray and white."""
    model = publish_model(database, storage, alias=None)
    weight = np.repeat(np.array([[-1.0], [0.0], [1.0]], np.float32), model.layers["h"], axis=1)
    run = RunFolder(storage.root / "run" / new_id("job"))
    run.create(RunSpec(kind="linear_probe", recipe={"layer": layer}))
    bias = np.array([0.5, 0.3, -0.5], np.float32) * model.layers["h"]
    Classifier(weight, bias, (darkest, "gray", "white"), layer).save(run.output / HEAD_FILE)
    job = succeed(database, storage, run, result, model_id=model.id)
    shutil.rmtree(run.path)
    return model.id, job.id


def gray(level: int) -> bytes:
    return encode(np.full((SIDE, SIDE, 3), level, np.uint8), "png")


def test_a_fine_tuned_model_classifies_by_its_own_head(
    api: httpx.Client, database: Database, storage: LocalStorage, probed: Probed
) -> None:
    """By the job's id: the head among the files of the model that it made, whatever becomes of the one before."""
    model_id = (succeed(database, storage, probed.model, {}).result or {})["model_id"]
    run = RunFolder(probed.run.path / "finetune")
    run.create(RunSpec(kind="finetune", recipe={}))
    shutil.copytree(probed.model.output, run.output, dirs_exist_ok=True)
    shutil.copy(probed.run.output / HEAD_FILE, run.output)
    job = succeed(database, storage, run, {}, model_id=model_id)
    assert job.result is not None
    of_probe = succeed(database, storage, probed.run, probed.result, model_id=model_id).id
    expected = classify(api, TEST_FILES[:3], probe=of_probe).json()
    assert api.delete(f"/v1/models/{model_id}").status_code == 204
    found = classify(api, TEST_FILES[:3], probe=job.id).json()
    assert (found["model"], found["probe"]) == (job.result["model_id"], job.id)
    assert found["data"] == expected["data"]
    assert api.delete(f"/v1/models/{job.result['model_id']}").status_code == 204
    assert classify(api, TEST_FILES[:3], probe=job.id).json()["code"] == "model_deleted"


def test_form_and_json_say_the_same(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """The k likeliest classes of each image, in the order of the images, however they are sent."""
    _, probe = add_probe(database, storage)
    files = [gray(0), gray(100), gray(255)]
    of_form = classify(api, files, probe=probe, top_k=2).json()
    uris = ["data:image/png;base64," + base64.b64encode(content).decode() for content in files]
    assert api.post("/v1/classify", json={"probe": probe, "top_k": 2, "input": uris}).json() == of_form
    names = [[likely["name"] for likely in item["classes"]] for item in of_form["data"]]
    assert names == [["black", "gray"], ["gray", "black"], ["white", "gray"]]
    assert len(classify(api, files[:1], probe=probe).json()["data"][0]["classes"]) == 3  # of fewer than five, all


def test_a_bad_image_fails_alone(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """The others have their classes; if all are bad, the request is, with the position of each."""
    _, probe = add_probe(database, storage)
    items = classify(api, [gray(0), b"x", gray(1)[:50]], probe=probe).json()["data"]
    assert items[0] == classify(api, [gray(0)], probe=probe).json()["data"][0]
    assert [(item["classes"], item["error"]["code"]) for item in items[1:]] == [
        (None, "unsupported_format"),
        (None, "undecodable"),
    ]
    response = classify(api, [b"x", gray(1)[:50]], probe=probe)
    assert (response.status_code, response.json()["code"]) == (422, "unsupported_format")
    assert [error["field"] for error in response.json()["errors"]] == ["0", "1"]


def test_a_probe_must_have_a_classifier(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """No such job, another kind, not done yet, without a head, of a layer that isn't served: each has its code."""
    model_id, probe = add_probe(database, storage)
    with database.transaction() as session:
        knn = jobs.submit(session, kind="knn_probe", recipe={}, model_id=model_id).id
        queued = jobs.submit(session, kind="linear_probe", recipe={}, model_id=model_id).id
        of_older_release = jobs.submit(session, kind="linear_probe", recipe={}, model_id=model_id).id
        jobs.succeed(session, begin(session, of_older_release), {"top1": 0.5})
    _, of_other_layer = add_probe(database, storage, layer="layer9.0")
    for id_, status, code in (
        (new_id("job"), 404, "not_found"),
        (knn, 422, "not_a_classifier"),
        (queued, 409, "probe_not_succeeded"),
        (of_older_release, 409, "no_head"),
        (of_other_layer, 422, "layer_not_served"),
    ):
        response = classify(api, [gray(0)], probe=id_)
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert classify(api, [gray(0)]).json()["errors"][0]["field"] == "probe"
    assert classify(api, [gray(0)], probe=probe).status_code == 200


def test_a_damaged_head_is_not_served(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """503 `head_damaged` for a file that isn't what was stored, or is gone; a head that is loaded goes on serving."""
    _, probe = add_probe(database, storage, darkest="a head that wasn't loaded before")
    key = f"{head_folder(probe, 1)}/{HEAD_FILE}"
    content = storage.get(key)
    storage.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    response = classify(api, [gray(0)], probe=probe)
    assert (response.status_code, response.json()["code"]) == (503, "head_damaged")
    storage.put(key, content)
    assert classify(api, [gray(0)], probe=probe).status_code == 200
    storage.delete(key)
    assert classify(api, [gray(0)], probe=probe).status_code == 200


def test_only_so_many_heads_stay_loaded(
    api: httpx.Client, database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two, the one that was used last but two is read from the storage again."""
    monkeypatch.setattr("service.classifiers.MAX_LOADED", 2)
    probes = [add_probe(database, storage, darkest=f"the {i}th of three")[1] for i in range(3)]
    for i in (0, 1, 0, 2):
        assert classify(api, [gray(0)], probe=probes[i]).status_code == 200
    for probe in probes:
        storage.delete(f"{head_folder(probe, 1)}/{HEAD_FILE}")
    answers = [classify(api, [gray(0)], probe=probe) for probe in probes]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert answers[1].json()["code"] == "head_damaged"


def test_a_deleted_model_takes_its_probes_heads_along(
    api: httpx.Client, database: Database, storage: LocalStorage
) -> None:
    """The blobs and what names them go, those of another model stay; the figures stay with the job."""
    model_id, probe = add_probe(database, storage, top1=0.5)
    _, other = add_probe(database, storage)
    assert api.delete(f"/v1/models/{model_id}").status_code == 204
    assert api.get(f"/v1/jobs/{probe}").json()["result"] == {"top1": 0.5, "transfer": None}
    assert not (storage.root / "probes" / probe).exists()
    response = classify(api, [gray(0)], probe=probe)
    assert (response.status_code, response.json()["code"]) == (409, "model_deleted")
    assert classify(api, [gray(0)], probe=other).status_code == 200
