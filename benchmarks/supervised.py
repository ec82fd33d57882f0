"""The baseline that has labels: the same encoder and a linear classifier, trained together.

Crops of 25% to 100% of the area resized to the input, flips, cross-entropy, SGD with Nesterov momentum and weight
decay, a short warm-up and then a cosine. A step takes both views of half as many images as a step of pretraining has,
so a network sees as many crops a step, and an epoch shows each image twice.

Legend: N images a step, 2N views, S image side, D size of h, K classes, M test images.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from models.config import Augmentation, PretrainRecipe, Schedule
from trainer.batches import training_batches
from trainer.data import ImageStore, epoch_order, model_inputs
from trainer.optim import learning_rate
from trainer.pack import Pack
from trainer.step import autocast, build_model

AUGMENTATION = Augmentation(operations=("crop", "flip"), crop_area=(0.25, 1.0))
PEAK_RATE, MOMENTUM, WEIGHT_DECAY = 0.1 / 128, 0.9, 5e-4  # the rate is for one view a step
TELL_SECONDS = 5.0
TEST_BATCH = 500


def supervised_top1(pack: Pack, recipe: PretrainRecipe, epochs: int, device: torch.device) -> float:
    """Train on the training split for `epochs`; the share of test images that are classified rightly."""
    encoder = build_model(recipe, device).encoder.train()
    classifier = nn.Linear(encoder.size, len(pack.classes)).to(device)
    _train(encoder, classifier, pack, recipe, epochs)
    return _top1(encoder, classifier, pack, recipe)


def _train(encoder: nn.Module, classifier: nn.Linear, pack: Pack, recipe: PretrainRecipe, epochs: int) -> None:
    device, N = classifier.weight.device, recipe.batch_size // 2
    recipe = recipe.model_copy(update={"augmentation": AUGMENTATION, "batch_size": N})
    positions = pack.split("train")
    store = ImageStore(pack, positions, device)
    labels = torch.from_numpy(pack.labels[positions].astype(np.int64)).to(device)
    steps_per_epoch = len(store) // N
    schedule = Schedule(epochs=epochs, warmup_epochs=epochs / 10)
    weights = [*encoder.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.0, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    told_at = time.monotonic()
    for step, batch in enumerate(training_batches(store, recipe, 0, epochs * steps_per_epoch)):
        epoch, batch_number = divmod(step, steps_per_epoch)
        if batch_number == 0:
            y = labels[epoch_order(len(store), seed=recipe.seed, epoch=epoch).to(device)]  # as training_batches orders
        rate = learning_rate(step, peak=2 * N * PEAK_RATE, schedule=schedule, steps_per_epoch=steps_per_epoch)
        optimizer.param_groups[0]["lr"] = rate
        x = batch.views()  # (2N, 3, S, S)
        with autocast(x, recipe):
            logits = classifier(encoder(x))  # (2N, K)
        loss = cross_entropy(logits.float(), y[batch_number * N :][:N].repeat(2))
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimizer.step()
        optimizer.zero_grad()
        if time.monotonic() - told_at >= TELL_SECONDS:
            done = f"epoch {step / steps_per_epoch:.1f} of {epochs}, loss {float(loss.detach()):.3f}"
            print(f"  supervised: {done}", flush=True)
            told_at = time.monotonic()


@torch.inference_mode()
def _top1(encoder: nn.Module, classifier: nn.Linear, pack: Pack, recipe: PretrainRecipe) -> float:
    encoder.eval()
    positions = pack.split("test")  # (M,)
    num_right = 0
    for part in np.split(positions, range(TEST_BATCH, len(positions), TEST_BATCH)):
        images = torch.from_numpy(model_inputs(pack, part, recipe.preprocessing)).to(classifier.weight.device)
        with torch.compiler.set_stance("force_eager"):  # not worth another compilation
            h = encoder(images.permute(0, 3, 1, 2).float() / 255)  # (500, D)
        predicted = classifier(h).argmax(dim=1).cpu().numpy()
        num_right += int((predicted == pack.labels[part]).sum())
    return num_right / len(positions)
