"""SimCLR with lightly as its documentation writes it, as an endless run of steps to time.

https://docs.lightly.ai/self-supervised-learning/examples/simclr.html: LightlyDataset over a folder of files,
SimCLRTransform on PIL images in the workers of a DataLoader, two passes of the network in float32, NTXentLoss, SGD
with lr 0.06. It decodes each JPEG file again for each step that needs it: that is the documented pipeline.

Two things differ from the page, neither to its loss. The network is the one that is compared: lightly's own CIFAR
ResNet-18 for 32 pixels (the page's torchvision ResNet-18 reduces them to one, and does a fraction of the work).
And an epoch has no end, so that no window holds a restart of the workers.

Legend: N images a step, S image side.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models import ResNetGenerator
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

ENDLESS = 10**9
LEARNING_RATE = 0.06
PREFETCHED = 2  # batches a worker, DataLoader's default


class Network(nn.Module):
    """An encoder without its classifier, and lightly's head."""

    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = SimCLRProjectionHead(size, size, 128)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> z (N, 128)."""
        z: Tensor = self.head(self.encoder(x).flatten(start_dim=1))
        return z


def build(image_size: int) -> Network:
    """ResNet-18 with the CIFAR stem for 32 pixels, torchvision's ResNet-50 for 224."""
    if image_size == 32:
        encoder = ResNetGenerator("resnet-18")
        encoder.linear = nn.Identity()
        return Network(encoder, 512)
    encoder = torchvision.models.resnet50()
    encoder.fc = nn.Identity()
    return Network(encoder, 2048)


def transform(image_size: int) -> SimCLRTransform:
    """The page's transform for CIFAR-10, and the defaults for ImageNet."""
    return SimCLRTransform(input_size=32, gaussian_blur=0.0) if image_size == 32 else SimCLRTransform()


class LightlyPipeline:
    """A network with its optimizer, trained on a folder of image files.

    Args:
        folder: Image files.
        image_size: S, 32 or 224.
        batch_size: N.
        num_workers: Processes that decode and augment, while steps are made.
        bfloat16: Not the documented form: autocast to bfloat16, and channels_last.
    """

    def __init__(
        self, folder: Path, *, image_size: int, batch_size: int, num_workers: int, device: torch.device, bfloat16: bool
    ) -> None:
        self.dataset = LightlyDataset(str(folder), transform=transform(image_size))
        self.batch_size, self.num_workers, self.device, self.bfloat16 = batch_size, num_workers, device, bfloat16
        self.memory_format = torch.channels_last if bfloat16 else torch.contiguous_format
        self.network = build(image_size).to(device, memory_format=self.memory_format).train()
        self.criterion = NTXentLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE)

    @property
    def num_prefetched(self) -> int:
        """Batches that the workers have ready before the first step."""
        return PREFETCHED * self.num_workers

    def steps(self) -> Iterator[None]:
        """Make a step for each item taken; the workers run until the iterator is closed."""
        sampler = RandomSampler(self.dataset, replacement=True, num_samples=ENDLESS)
        loader = DataLoader(
            self.dataset, batch_size=self.batch_size, sampler=sampler, drop_last=True, num_workers=self.num_workers
        )
        total_loss = torch.zeros((), device=self.device)
        for (x0, x1), *_ in loader:
            loss = self._loss(x0, x1)
            total_loss += loss.detach()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            yield

    def _loss(self, x0: Tensor, x1: Tensor) -> Tensor:
        x0, x1 = (x.to(self.device, memory_format=self.memory_format) for x in (x0, x1))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            z0, z1 = self.network(x0), self.network(x1)
        loss: Tensor = self.criterion(z0, z1) if not self.bfloat16 else self.criterion(z0.float(), z1.float())
        return loss
