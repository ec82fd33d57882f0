"""Fine-tuning: what is trained, on which labels, and what is left of it."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

import trainer.finetune
from models.classifier import HEAD_FILE, Classifier
from models.config import PretrainRecipe
from models.export import load_model
from tests.trainer.probes.run_folders import SIDE, events, noisy_images, probe_run, untrained
from trainer.__main__ import main
from trainer.checkpoint import load_newest_checkpoint
from trainer.data import ImageStore
from trainer.finetune import Finetuned, finetune
from trainer.labelled_batches import labelled_batches
from trainer.loop import Interrupted
from trainer.pack import Pack
from trainer.probes.splits import labelled_part
from trainer.run import RunError, RunFolder
from trainer.supervised import Plan

CPU = torch.device("cpu")
LABELS = [0, 1, 2] * 20
NUM_TRAIN = 48
IMAGES = noisy_images(LABELS, noise=20, seed=1)
RESNET = PretrainRecipe.model_validate(
    {
        "precision": "float32",
        "preprocessing": {"image_size": SIDE},
        "encoder": {"name": "resnet10", "width": 0.25},
        "head": {"output_size": 8},
    }
)


def make_run(path: Path, *, images: NDArray[np.uint8] = IMAGES, labels: list[int] = LABELS, **recipe: Any) -> RunFolder:
    return probe_run(
        path,
        "finetune",
        {"batch_size": 16, "epochs": 2, "learning_rate": 1.0, **recipe},
        images=images,
        labels=labels,
        splits=["train"] * NUM_TRAIN + ["test"] * (len(LABELS) - NUM_TRAIN),
        classes=["ant", "bee", "cat"],
        model=RESNET,
    )


def never() -> bool:
    return False


def after(num_steps: int) -> Callable[[], bool]:
    """A should_stop that is true at the end of step `num_steps`."""
    calls = itertools.count(1)
    return lambda: next(calls) >= num_steps


@pytest.fixture
def _no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX file takes seconds; what is trained is in the checkpoint too."""
    monkeypatch.setattr(trainer.finetune, "export", lambda *_: {})


def trained(run: RunFolder) -> dict[str, Tensor]:
    """The network after the last step."""
    state = load_newest_checkpoint(run.checkpoints, CPU)
    assert state is not None
    network: dict[str, Tensor] = state["network"]
    return network


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_process_leaves_a_model_that_classifies(tmp_path: Path) -> None:
    """The exported encoder is the trained one, g and recipe are those from before, and the head on h scores top-1."""
    run = make_run(tmp_path, epochs=16)
    assert main(run.path) == 0
    result = json.loads(run.result.read_text())
    assert {path.name for path in run.output.iterdir()} >= {"model.onnx", "encoder.pt", "model.json", HEAD_FILE}
    tuned, recipe = load_model(run.output)
    served = RESNET.preprocessing.model_copy(update={"storage_side": 256})
    assert recipe == RESNET.model_copy(update={"preprocessing": served})
    before, after_training = untrained(RESNET), trained(run)
    assert_equal(tuned.state_dict(), {name.removeprefix("model."): w for name, w in after_training.items()})
    assert_equal(tuned.head.state_dict(), before.head.state_dict())
    moved = {n for n, w in tuned.encoder.state_dict().items() if not torch.equal(w, before.encoder.state_dict()[n])}
    assert moved == set(tuned.encoder.state_dict()), "every kernel, and batch norm with its statistics"

    x = torch.from_numpy(IMAGES[NUM_TRAIN:]).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        probabilities = Classifier.load(run.output / HEAD_FILE).probabilities(tuned.encoder(x).numpy())
    right = probabilities.argmax(axis=1) == LABELS[NUM_TRAIN:]
    assert result["top1"] == pytest.approx(right.mean())
    assert result["top1"] > 0.5
    assert (result["num_train"], result["num_labels"], result["num_test"]) == (NUM_TRAIN, NUM_TRAIN, 12)
    assert (result["label_fraction"], result["test_split"], result["classes"]) == (1.0, "test", ["ant", "bee", "cat"])
    assert result["confidence_interval"][0] <= result["top1"] <= result["confidence_interval"][1]
    assert (result["steps"], result["epochs"], result["learning_rate"]) == (48, 16, 1.0 * 16 / 256)
    last = [event for event in events(run) if event["type"] == "metrics"][-1]
    assert (last["step"], last["steps"], last["epoch"], last["epochs"]) == (48, 48, 16.0, 16)
    assert last["loss"] == result["loss"]


@pytest.mark.usefixtures("_no_export")
def test_two_steps_are_those_of_the_equation(tmp_path: Path) -> None:
    """Cross-entropy through classifier and encoder in training mode, and Nesterov's update, written out."""
    run = make_run(tmp_path, epochs=1, batch_size=24)
    finetune(run, never)

    network = Finetuned(untrained(RESNET), RESNET, 3, CPU).train()
    parameters = [*network.model.encoder.parameters(), *network.classifier.parameters()]
    velocities = [torch.zeros_like(w) for w in parameters]
    pack = Pack.open(run.dataset)
    store = ImageStore(pack, np.arange(NUM_TRAIN), CPU)
    plan = Plan.of(NUM_TRAIN, epochs=1, batch_size=24, rate=1.0)
    for rate, (x, y) in zip(
        (24 / 256, 12 / 256), labelled_batches(store, torch.tensor(LABELS[:NUM_TRAIN]), plan, SIDE, seed=0), strict=True
    ):
        logits = network.classifier(network.model.encoder(x))
        gradients = torch.autograd.grad(cross_entropy(logits, y), parameters)
        with torch.no_grad():
            for w, v, g in zip(parameters, velocities, gradients, strict=True):
                v.mul_(0.9).add_(g)
                w.sub_(rate * (g + 0.9 * v))
    for name, value in trained(run).items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.usefixtures("_no_export")
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after steps 2 and 4 and started again, it ends with the weights of one that never stopped."""
    straight, stopped = make_run(tmp_path / "straight"), make_run(tmp_path / "stopped")
    finetune(straight, never)
    for _ in range(2):
        with pytest.raises(Interrupted):
            finetune(stopped, after(2))
        assert not stopped.output.joinpath(HEAD_FILE).exists()
    assert finetune(stopped, never)["steps"] == 6
    assert_equal(trained(straight), trained(stopped))
    assert (straight.output / HEAD_FILE).read_bytes() == (stopped.output / HEAD_FILE).read_bytes()


@pytest.mark.usefixtures("_no_export")
def test_only_the_labelled_part_counts(tmp_path: Path) -> None:
    """Other test labels and other pixels of training images beyond the fraction change no weight; others do."""
    fields: dict[str, Any] = {"label_fraction": 0.25, "seed": 3}
    run = make_run(tmp_path / "true", **fields)
    result = finetune(run, never)
    assert (result["num_labels"], result["num_train"], result["batch_size"]) == (12, NUM_TRAIN, 12)
    part = labelled_part(Pack.open(run.dataset), np.arange(NUM_TRAIN), 0.25, seed=3)
    beyond = np.setdiff1d(np.arange(NUM_TRAIN), part)
    for name, inverted, is_equal in (("beyond", beyond, True), ("part", part[:1], False)):
        images = IMAGES.copy()
        images[inverted] = 255 - images[inverted]
        labels = [*LABELS[:NUM_TRAIN], *reversed(LABELS[NUM_TRAIN:])]
        other = make_run(tmp_path / name, images=images, labels=labels, **fields)
        finetune(other, never)
        assert all(torch.equal(w, trained(other)[key]) for key, w in trained(run).items()) == is_equal


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_cuda_is_resumed_and_exported(tmp_path: Path) -> None:
    """Stopped after step 2 and started again, it ends, and the model that it leaves is the trained one."""
    run = make_run(tmp_path)
    run.create(run.spec().model_copy(update={"device": "cuda"}))
    with pytest.raises(Interrupted):
        finetune(run, after(2))
    assert finetune(run, never)["steps"] == 6
    tuned, _ = load_model(run.output)
    assert_equal(tuned.state_dict(), {name.removeprefix("model."): w for name, w in trained(run).items()})


def test_a_part_too_small_for_a_class_is_told(tmp_path: Path) -> None:
    """The field, and the classes that it leaves without an image."""
    with pytest.raises(RunError, match=r"recipe\.label_fraction: more than .*'ant' has 16") as failure:
        finetune(make_run(tmp_path, label_fraction=0.01), never)
    assert failure.value.code == "too_few_labels"
