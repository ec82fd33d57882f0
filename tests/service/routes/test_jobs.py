"""Jobs over HTTP."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from models.config import PretrainRecipe, pretrain_recipe
from service.core import jobs
from service.core.db import Database
from service.core.ids import new_id
from service.core.tables import Dataset, Job
from tests.service.conftest import add_dataset, add_model, begin


@pytest.fixture
def dataset_id(database: Database) -> str:
    with database.transaction() as session:
        return add_dataset(session).id


@pytest.fixture
def model_id(database: Database) -> str:
    with database.transaction() as session:
        return add_model(session).id


def submit(api: httpx.Client, key: str | None = None, **request: Any) -> httpx.Response:
    return api.post("/v1/jobs", json=request, headers={"Idempotency-Key": key} if key else {})


def small(dataset_id: str, **recipe: Any) -> dict[str, Any]:
    return {"kind": "pretrain", "dataset_id": dataset_id, "recipe": {"batch_size": 100, **recipe}}


def test_a_job_is_queued_with_its_whole_recipe(api: httpx.Client, dataset_id: str) -> None:
    """202, its place, and the recipe that the preset and the overriding fields add up to."""
    fields = {"preset": "cpu-small", "batch_size": 64, "schedule": {"epochs": 3}}
    request = {"kind": "pretrain", "dataset_id": dataset_id, "recipe": fields, "metadata": {"run": 7, "who": "ada"}}
    response = submit(api, **request)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert api.get(response.headers["location"]).json() == job
    assert PretrainRecipe.model_validate(job["recipe"]) == pretrain_recipe(fields)
    assert (job["status"], job["attempt"], job["progress"], job["result"]) == ("queued", 0, None, None)
    assert job["metadata"] == {"run": 7, "who": "ada"}
    assert job["resources"] == {"nodes": {"min": 1, "max": 1}, "processes_per_node": 1, "device": "auto"}


def test_null_stands_for_absent(api: httpx.Client, dataset_id: str) -> None:
    """A client may send the id that a kind doesn't take as null."""
    assert submit(api, **small(dataset_id), model_id=None).status_code == 202


@pytest.mark.parametrize(
    "kind", ["finetune", "linear_probe", "knn_probe", "layer_sweep", "transform_probe", "export", "index"]
)
def test_each_kind_has_defaults(api: httpx.Client, dataset_id: str, model_id: str, kind: str) -> None:
    """A probe, export or index job needs no recipe."""
    request = {"kind": kind, "model_id": model_id} | ({} if kind == "index" else {"dataset_id": dataset_id})
    response = submit(api, **request)
    assert response.status_code == 202
    assert response.json()["recipe"]


def refused(response: httpx.Response) -> tuple[str, str]:
    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    return error["field"], error["message"]


def test_a_batch_larger_than_the_data_is_refused(api: httpx.Client, dataset_id: str) -> None:
    """422 names the field and the number of training images."""
    field, message = refused(submit(api, **small(dataset_id, batch_size=101)))
    assert field == "recipe.batch_size"
    assert "at most 100" in message
    assert submit(api, **small(dataset_id, batch_size=100)).status_code == 202


def test_a_knn_probe_on_the_way_needs_labels(api: httpx.Client, database: Database) -> None:
    """422 names the field, also in an ablation's base, where the training images have but one class."""
    with database.transaction() as session:
        splits = {"train": {"num_images": 10, "per_class": [10]}}
        dataset_id = add_dataset(session, classes=["cat"], splits=splits).id
    field, message = refused(submit(api, **small(dataset_id, batch_size=5, knn_every_epochs=1)))
    assert (field, "has 1 of 1" in message) == ("recipe.knn_every_epochs", True)
    recipe = {"base": {"batch_size": 5, "knn_every_epochs": 1}, "grid": {"loss.temperature": [1]}}
    field, _ = refused(submit(api, kind="ablation", dataset_id=dataset_id, recipe=recipe))
    assert field == "recipe.base.knn_every_epochs"


def test_an_untrained_encoder_needs_no_batch(api: httpx.Client, dataset_id: str) -> None:
    """With 0 epochs the batch size is not looked at."""
    schedule = {"epochs": 0, "warmup_epochs": 0}
    assert submit(api, **small(dataset_id, batch_size=4096, schedule=schedule)).status_code == 202


def test_one_image_is_not_enough(api: httpx.Client, database: Database) -> None:
    """Pretraining needs 2 training images."""
    with database.transaction() as session:
        splits = {"train": {"num_images": 1, "per_class": [1]}, "test": {"num_images": 9, "per_class": [9]}}
        dataset_id = add_dataset(session, classes=["cat"], splits=splits).id
    field, message = refused(submit(api, **small(dataset_id, batch_size=2)))
    assert field == "dataset_id"
    assert "at least 2" in message


def test_an_export_needs_training_images(api: httpx.Client, database: Database, model_id: str) -> None:
    """Classes or not: one training image will do, none is refused; so is a variant that isn't known."""
    with database.transaction() as session:
        of_one, of_none = (
            add_dataset(session, classes=[], splits={"train": {"num_images": n, "per_class": []}}).id for n in (1, 0)
        )
    assert submit(api, kind="export", dataset_id=of_one, model_id=model_id).status_code == 202
    field, message = refused(submit(api, kind="export", dataset_id=of_none, model_id=model_id))
    assert (field, message) == ("dataset_id", "an export calibrates on training images; the data set has none")
    recipe = {"variants": ["bfloat16"]}
    answer = submit(api, kind="export", dataset_id=of_one, model_id=model_id, recipe=recipe).json()
    assert "'float32', 'float16' or 'int8'" in answer["errors"][0]["message"]


@pytest.mark.parametrize(
    ("classes", "per_class", "named"),
    [
        ([], [], "2 classes"),
        (["cat"], [50], "2 classes"),
        (["cat", "dog", "eel"], [50, 2, 0], "'dog' has 2, 'eel' has 0"),
    ],
)
def test_probes_need_two_classes_of_enough_images(
    api: httpx.Client, database: Database, model_id: str, classes: list[str], per_class: list[int], named: str
) -> None:
    """422 says how many classes there are, or names those with too few training images."""
    with database.transaction() as session:
        splits = {"train": {"num_images": sum(per_class), "per_class": per_class}}
        dataset_id = add_dataset(session, classes=classes, splits=splits).id
    field, message = refused(submit(api, kind="linear_probe", dataset_id=dataset_id, model_id=model_id))
    assert field == "dataset_id"
    assert named in message
    assert "cat" not in message


def test_a_class_of_one_image_beside_two_large_ones_can_be_probed(
    api: httpx.Client, database: Database, model_id: str
) -> None:
    """202: the probe learns what it can of each class."""
    with database.transaction() as session:
        splits = {"train": {"num_images": 101, "per_class": [50, 50, 1]}}
        dataset_id = add_dataset(session, classes=["cat", "dog", "eel"], splits=splits).id
    assert submit(api, kind="knn_probe", dataset_id=dataset_id, model_id=model_id).status_code == 202


@pytest.mark.parametrize(
    ("kind", "recipe", "named"),
    [
        ("linear_probe", {"layer": "layer5.0"}, "recipe.layer"),
        ("knn_probe", {"layer": "g2"}, "recipe.layer"),
        ("layer_sweep", {"layers": ["h", "layer5.0"]}, "recipe.layers"),
        ("transform_probe", {"layers": ["z", "blocks.0"]}, "recipe.layers"),
    ],
)
def test_a_layer_that_the_model_lacks_is_refused(
    api: httpx.Client, dataset_id: str, model_id: str, kind: str, recipe: dict[str, Any], named: str
) -> None:
    """422 lists the layers of the model, a ResNet-18 with the paper's head; any of these is taken."""
    field, message = refused(submit(api, kind=kind, dataset_id=dataset_id, model_id=model_id, recipe=recipe))
    blocks = [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    layers = ["stem", *blocks[:-1], "h", "g1", "z"]
    assert field == named
    assert f"{', '.join(layers)}; not" in message
    fields = [{"layer": layer} for layer in layers] if named == "recipe.layer" else [{"layers": layers}]
    for known in fields:
        assert submit(api, kind=kind, dataset_id=dataset_id, model_id=model_id, recipe=known).status_code == 202


def test_an_ablations_probe_is_of_a_layer_that_all_its_networks_have(api: httpx.Client, dataset_id: str) -> None:
    """422 where one of the heads to be compared has no hidden layer."""
    recipe = {"base": {"batch_size": 100}, "grid": {"head.num_layers": [2, 1]}, "probe": {"layer": "g1"}}
    field, message = refused(submit(api, kind="ablation", dataset_id=dataset_id, recipe=recipe))
    assert field == "recipe.probe.layer"
    assert message.endswith("h, z; not 'g1'")


def test_a_class_without_a_label_can_not_be_learned(api: httpx.Client, dataset_id: str, model_id: str) -> None:
    """422 names the fraction that leaves a class without an image, and the least one, which is taken."""
    request = {"kind": "finetune", "dataset_id": dataset_id, "model_id": model_id}
    field, message = refused(submit(api, **request, recipe={"label_fraction": 0.01}))
    assert field == "recipe.label_fraction"
    assert message.startswith("more than 0.0125, for an image of each class, not 0.01")  # of 50, 10 are held out
    assert "'cat' has 40, 'dog' has 40" in message
    taken = submit(api, **request, recipe={"label_fraction": 0.0126})
    assert taken.status_code == 202
    assert taken.json()["recipe"]["epochs"] == 30


def test_a_transform_probe_needs_images_and_no_labels(api: httpx.Client, database: Database, model_id: str) -> None:
    """202 for 20 images without a class; with fewer, 422 says how many there are and are needed."""
    with database.transaction() as session:
        few, enough = (
            add_dataset(session, classes=[], splits={"train": {"num_images": number, "per_class": []}}).id
            for number in (19, 20)
        )
    field, message = refused(submit(api, kind="transform_probe", dataset_id=few, model_id=model_id))
    assert field == "dataset_id"
    assert "at least 20 training images" in message
    assert "has 19" in message
    assert submit(api, kind="transform_probe", dataset_id=enough, model_id=model_id).status_code == 202


@pytest.mark.parametrize("status", ["validating", "failed"])
def test_the_data_set_must_be_ready(api: httpx.Client, database: Database, status: str) -> None:
    """409 `dataset_not_ready` before the data set is packed, and after it failed."""
    with database.transaction() as session:
        dataset_id = add_dataset(session, status=status, splits=None).id
    response = submit(api, **small(dataset_id))
    assert (response.status_code, response.json()["code"]) == (409, "dataset_not_ready")


def test_what_a_job_names_must_exist(api: httpx.Client, dataset_id: str) -> None:
    """422 names the id that leads nowhere."""
    assert refused(submit(api, **small(new_id("ds"))))[0] == "dataset_id"
    request = {"kind": "knn_probe", "dataset_id": dataset_id, "model_id": new_id("mdl")}
    assert refused(submit(api, **request))[0] == "model_id"


def test_pretraining_may_ask_for_several_nodes_and_processes(api: httpx.Client, dataset_id: str) -> None:
    """What is asked for is kept; `max` is `min` unless it is given."""
    response = submit(api, **small(dataset_id), resources={"nodes": {"min": 2}, "processes_per_node": 2})
    assert response.status_code == 202
    expected = {"nodes": {"min": 2, "max": 2}, "processes_per_node": 2, "device": "auto"}
    assert response.json()["resources"] == expected


def test_a_batch_that_no_number_of_processes_can_share_is_refused(api: httpx.Client, dataset_id: str) -> None:
    """422 names the batch size and the processes; one of the numbers of nodes is enough."""
    resources = {"nodes": {"min": 2, "max": 3}, "processes_per_node": 3}
    field, message = refused(submit(api, **small(dataset_id), resources=resources))
    assert field == "recipe.batch_size"
    assert "3 on each of 2 to 3 nodes; 100 is none" in message
    resources["nodes"] = {"min": 1, "max": 3}
    resources["processes_per_node"] = 4
    assert submit(api, **small(dataset_id), resources=resources).status_code == 202


def test_a_probe_runs_in_one_process(api: httpx.Client, dataset_id: str) -> None:
    """422 names the field that asks for more."""
    request = {"kind": "knn_probe", "dataset_id": dataset_id, "model_id": new_id("mdl")}
    field, message = refused(submit(api, **request, resources={"nodes": {"max": 4}}))
    assert (field, message) == ("resources.nodes.max", "Input should be less than or equal to 1")


def test_one_key_makes_one_job(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """100 requests at once with one Idempotency-Key: all answer 202 with the same job, and there is one."""
    with ThreadPoolExecutor(100) as pool:
        responses = list(pool.map(lambda _: submit(api, "once", **small(dataset_id)), range(100)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_key_is_for_one_request(api: httpx.Client, dataset_id: str) -> None:
    """The same key with another body is 409; the same body written otherwise is the same request."""
    first = submit(api, "mine", **small(dataset_id, seed=1))
    other = submit(api, "mine", **small(dataset_id, seed=2))
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    reordered = dict(reversed(small(dataset_id, seed=1).items()))
    assert submit(api, "mine", **reordered).json()["id"] == first.json()["id"]


def test_a_repetition_outlives_what_it_names(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """A client that missed the answer gets the job, even if its data set has gone since."""
    job = submit(api, "mine", **small(dataset_id)).json()
    api.post(f"/v1/jobs/{job['id']}/cancel")
    with database.transaction() as session:
        session.delete(session.get_one(Dataset, dataset_id))
    again = submit(api, "mine", **small(dataset_id))
    assert (again.status_code, again.json()["id"]) == (202, job["id"])


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_keys_are_short_and_printable(api: httpx.Client, dataset_id: str, key: str) -> None:
    """Another Idempotency-Key is 422."""
    headers = {"Idempotency-Key": key.encode()}
    response = api.post("/v1/jobs", json=small(dataset_id), headers=headers)
    assert refused(response)[0] == "idempotency-key"


def test_202_is_read_after_the_commit(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """Whoever has the answer finds the job with another connection, 50 times of 50."""
    for _ in range(50):
        job_id = submit(api, **small(dataset_id)).json()["id"]
        with database.transaction() as session:
            assert session.get(Job, job_id) is not None


def test_jobs_are_listed_by_kind_and_status(api: httpx.Client, database: Database, model_id: str) -> None:
    """Filters and pages, newest first."""
    with database.transaction() as session:
        old, new = (jobs.submit(session, kind="index", recipe={}, model_id=model_id).id for _ in range(2))
        running = jobs.submit(session, kind="knn_probe", recipe={}, model_id=model_id).id
        begin(session, running)

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in api.get("/v1/jobs", params=query).json()["items"]]

    assert ids(kind="index") == sorted([old, new], reverse=True)
    assert ids(status="running") == [running]
    assert ids(kind="index", status="running") == []
    page = api.get("/v1/jobs", params={"limit": 2}).json()
    assert page["next"] == page["items"][-1]["id"]
    assert len(ids(cursor=page["next"])) == 1


def test_a_thousand_jobs_are_listed_at_once(api: httpx.Client, database: Database) -> None:
    """A page of 1,000 jobs with whole recipes costs at most three times the CPU of reading and writing it as JSON."""
    recipe = PretrainRecipe().model_dump(mode="json")
    with database.transaction() as session:
        session.add_all(
            Job(id=new_id("job"), kind="pretrain", recipe=recipe, resources={}, metadata_={}) for _ in range(1000)
        )
    listing, as_json = [], []
    for _ in range(5):
        started = time.process_time()
        response = api.get("/v1/jobs", params={"limit": 1000})
        listed = time.process_time()
        page = json.loads(response.content)
        json.dumps(page)
        listing.append(listed - started)
        as_json.append(time.process_time() - listed)
        assert len(page["items"]) == 1000
    assert min(listing) < 3 * min(as_json), (listing, as_json)


def test_a_job_shows_how_it_goes(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """Attempt, progress and time left while it runs; the result when it succeeded."""
    job_id = submit(api, **small(dataset_id)).json()["id"]
    with database.transaction() as session:
        job = begin(session, job_id)
        job.progress = {"step": 10, "steps": 40, "loss": 3.5, "eta_seconds": 12.5}
    shown = api.get(f"/v1/jobs/{job_id}").json()
    assert (shown["status"], shown["attempt"], shown["eta_seconds"]) == ("running", 1, 12.5)
    assert shown["progress"]["loss"] == 3.5
    with database.transaction() as session:
        jobs.succeed(session, jobs.hold(session, job_id, 1), {"loss": 3.0})
    shown = api.get(f"/v1/jobs/{job_id}").json()
    assert (shown["status"], shown["result"], shown["eta_seconds"]) == ("succeeded", {"loss": 3.0}, None)


def test_cancel_and_resume(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """A queued job is cancelled at once and can be queued again; one that succeeded can be neither."""
    job_id = submit(api, **small(dataset_id)).json()["id"]
    assert api.post(f"/v1/jobs/{job_id}/resume").status_code == 409
    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 409
    assert api.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "queued"
    with database.transaction() as session:
        jobs.succeed(session, begin(session, job_id), {})
    for action in ("cancel", "resume"):
        assert api.post(f"/v1/jobs/{job_id}/{action}").status_code == 409
        assert api.post(f"/v1/jobs/{new_id('job')}/{action}").status_code == 404


def test_a_failed_job_says_why(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """The error's code and message are part of the job."""
    job_id = submit(api, **small(dataset_id)).json()["id"]
    with database.transaction() as session:
        jobs.fail(session, begin(session, job_id), "non_finite_loss", "the loss is nan at step 3")
    error = api.get(f"/v1/jobs/{job_id}").json()["error"]
    assert error == {"code": "non_finite_loss", "message": "the loss is nan at step 3"}


def test_recipes_are_what_jobs_accept(api: httpx.Client, database: Database) -> None:
    """Each preset's complete recipe, sent back as it is, is accepted and means the same."""
    recipes = api.get("/v1/recipes").json()
    with database.transaction() as session:
        splits = {"train": {"num_images": 100_000, "per_class": [50_000, 50_000]}}
        dataset_id = add_dataset(session, splits=splits).id
    for name, preset in recipes["presets"].items():
        response = submit(api, kind="pretrain", dataset_id=dataset_id, recipe=preset["recipe"])
        assert response.status_code == 202
        assert (
            response.json()["recipe"]
            == preset["recipe"]
            == json.loads(pretrain_recipe({"preset": name}).model_dump_json())
        )
    probes = {"linear_probe", "knn_probe", "layer_sweep", "transform_probe"}
    assert recipes["schemas"].keys() == {"pretrain", "finetune", *probes, "export", "ablation", "index", "map"}
    assert recipes["schemas"]["knn_probe"]["properties"]["k"]["maximum"] == 10_000


def test_an_ablation_is_queued_with_its_whole_base(api: httpx.Client, database: Database, dataset_id: str) -> None:
    """Preset and defaults are filled in; its parts are listed by their parent, with their place in the grid."""
    recipe = {"base": {"preset": "cpu-small", "batch_size": 100}, "grid": {"loss.temperature": [0.1, 1.0]}}
    response = submit(api, kind="ablation", dataset_id=dataset_id, recipe=recipe)
    assert response.status_code == 202
    parent = response.json()
    assert parent["recipe"]["base"] == json.loads(pretrain_recipe(recipe["base"]).model_dump_json())
    cell = {"values": {"loss.temperature": 1.0}, "seed": 0}
    with database.transaction() as session:
        child = jobs.submit(
            session, kind="pretrain", recipe={}, dataset_id=dataset_id, parent_id=parent["id"], cell=cell
        )
    (listed,) = api.get("/v1/jobs", params={"parent_id": parent["id"]}).json()["items"]
    assert (listed["id"], listed["parent_id"], listed["cell"]) == (child.id, parent["id"], cell)
    assert (parent["parent_id"], parent["cell"]) == (None, None)


def test_a_run_of_an_ablation_that_can_not_be_trained_is_refused(api: httpx.Client, dataset_id: str) -> None:
    """422 names the field of the base or the grid, before anything is queued."""
    for recipe, expected in (
        ({"base": {"batch_size": 10_000}, "grid": {"seed": [1]}}, "recipe.grid"),
        ({"base": {"batch_size": 10_000}, "grid": {"loss.temperature": [1]}}, "recipe.base.batch_size"),
        ({"grid": {"batch_size": [64, 10_000]}}, "recipe.grid.batch_size"),
        ({"grid": {"loss.temperature": [-1]}}, "recipe.grid"),
    ):
        response = submit(api, kind="ablation", dataset_id=dataset_id, recipe=recipe)
        assert refused(response)[0] == expected
    assert api.get("/v1/jobs").json()["items"] == []
