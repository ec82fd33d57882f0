import pytest
import torch

from models.config import Encoder, Head, PretrainRecipe
from models.simclr import SimCLR


def test_z_is_the_head_of_h() -> None:
    """The network returns its encoder's h and the head's z of that h."""
    torch.manual_seed(0)
    model = SimCLR(PretrainRecipe(encoder=Encoder(name="resnet10", width=0.25), head=Head(output_size=16))).eval()
    x = torch.rand(3, 3, 32, 32)
    h, z = model(x)
    assert torch.equal(h, model.encoder(x))
    assert torch.equal(z, model.head(h))
    assert (h.shape, z.shape) == ((3, 128), (3, 16))


def test_a_step_reaches_every_parameter() -> None:
    """Once gamma has left 0, the gradient of z reaches every trained parameter."""
    torch.manual_seed(0)
    model = SimCLR(PretrainRecipe(encoder=Encoder(name="resnet18", width=0.25)))
    trained = {name: w for name, w in model.named_parameters() if w.requires_grad}
    for _ in range(2):
        _, z = model(torch.rand(8, 3, 32, 32))
        model.zero_grad()
        (z * torch.randn_like(z)).sum().backward()
        with torch.no_grad():
            for w in trained.values():
                w.sub_(w.grad, alpha=0.1)
    assert not [name for name, w in trained.items() if not w.grad.any()]


@pytest.mark.parametrize(
    ("name", "hidden_size", "fits"),
    [("resnet50", None, True), ("resnet50", 16_384, False), ("resnet101", None, False)],
)
def test_a_network_that_no_onnx_file_holds_is_refused(name: str, hidden_size: int | None, *, fits: bool) -> None:
    """ResNet-50 of width 4, the paper's largest, is taken; what exceeds 2 GiB of float32 fails before training."""
    head = Head(num_layers=3, hidden_size=hidden_size)
    recipe = PretrainRecipe(encoder=Encoder(name=name, width=4, stem="imagenet"), head=head)
    with torch.device("meta"):
        if fits:
            assert 4 * sum(w.numel() for w in SimCLR(recipe).parameters()) < 2**31
            return
        with pytest.raises(ValueError, match=r"encoder\.width, head\.hidden_size: with at most 530000000 parameters"):
            SimCLR(recipe)
