"""ViT-S against torchvision's, torch's transformer layer, MoCo v3's formulas and the counts of its parameters."""

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from models.config import Encoder, Head, Preprocessing, PretrainRecipe, pretrain_recipe
from models.simclr import MAX_PARAMETERS, SimCLR
from models.vit import Block, ViT, position_embedding

SMALL = Encoder(name="vit_small", width=0.25, patch_size=8)
TORCHVISION_NAMES = (
    ("encoder.ln.", "norm."),
    ("encoder.layers.encoder_layer_", "blocks."),
    ("conv_proj.", "patch_projection."),
    ("self_attention.in_proj_", "attention.qkv."),
    ("self_attention.out_proj.", "attention.output."),
    ("ln_1.", "attention_norm."),
    ("ln_2.", "mlp_norm."),
    ("mlp.3.", "mlp.2."),
)


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter values that hide nothing: as drawn, biases are 0 and norms do little."""
    generator = torch.Generator().manual_seed(seed)
    for w in module.parameters():
        with torch.no_grad():
            w.normal_(std=0.2, generator=generator).add_(0.1)


def torchvision_vit(config: Encoder, image_size: int) -> torchvision.models.VisionTransformer:
    """Torchvision's ViT of the same sizes, without its classifier and with MoCo v3's fixed positions."""
    size = int(384 * config.width)
    reference = torchvision.models.VisionTransformer(
        image_size=image_size,
        patch_size=config.patch_size,
        num_layers=12,
        num_heads=int(12 * config.width),
        hidden_dim=size,
        mlp_dim=4 * size,
    )
    reference.heads = nn.Identity()
    patches = position_embedding(image_size // config.patch_size, size)  # (P, D)
    reference.encoder.pos_embedding.data = torch.cat([torch.zeros(1, size), patches])[None]  # (1, T, D)
    return reference


def num_parameters(module: nn.Module) -> int:
    return sum(w.numel() for w in module.parameters())


def views_of_a_step(num_views: int, side: int) -> Tensor:
    return torch.rand(num_views, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_equals_torchvision() -> None:
    """With torchvision's weights, h is what torchvision feeds its classifier, patches in the same order."""
    reference = torchvision_vit(SMALL, 32).double()
    positions = reference.encoder.pos_embedding.detach().clone()
    randomize(reference)
    reference.encoder.pos_embedding.data = positions
    state = reference.state_dict()
    del state["encoder.pos_embedding"]
    for theirs, ours in TORCHVISION_NAMES:
        state = {name.replace(theirs, ours): w for name, w in state.items()}
    encoder = ViT(SMALL, 32).double()
    encoder.load_state_dict(state)
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encoder(x), reference(x), rtol=1e-10, atol=1e-10)


def test_a_block_equals_torch_s_transformer_layer() -> None:
    """With the same weights, a block is torch's pre-norm layer with GELU, value and gradient."""
    block = Block(64, num_heads=2).double()
    randomize(block)
    layer = nn.TransformerEncoderLayer(
        64, 2, 256, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).double()
    pairs = (
        (layer.self_attn.in_proj_weight, block.attention.qkv.weight),
        (layer.self_attn.in_proj_bias, block.attention.qkv.bias),
        (layer.self_attn.out_proj.weight, block.attention.output.weight),
        (layer.self_attn.out_proj.bias, block.attention.output.bias),
        *zip(layer.norm1.parameters(), block.attention_norm.parameters(), strict=True),
        *zip(layer.norm2.parameters(), block.mlp_norm.parameters(), strict=True),
        *zip(layer.linear1.parameters(), block.mlp[0].parameters(), strict=True),
        *zip(layer.linear2.parameters(), block.mlp[2].parameters(), strict=True),
    )
    for theirs, ours in pairs:
        theirs.data.copy_(ours)
    tokens = torch.randn(3, 5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(tokens), layer(tokens), rtol=1e-12, atol=1e-12)
    for module in (block, layer):
        module(tokens).square().sum().backward()
    for theirs, ours in pairs:
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12 * scale)


def test_positions_are_sines_and_cosines_of_row_and_column() -> None:
    """Patch (row, column) has sin and cos of row w, then of column w, with w = 10000^(-k / (D / 4))."""
    side, size = 3, 24
    expected = [
        [
            wave(place * 10_000 ** (-k / (size // 4)))
            for place in (row, column)
            for wave in (math.sin, math.cos)
            for k in range(size // 4)
        ]
        for row in range(side)
        for column in range(side)
    ]
    torch.testing.assert_close(position_embedding(side, size), torch.tensor(expected))


def test_positions_are_neither_trained_nor_stored() -> None:
    """The recipe says all of them: they are no parameter and in no state."""
    encoder = ViT(SMALL, 32)
    assert encoder.get_buffer("positions").shape == (16, 96)
    assert "positions" not in {**encoder.state_dict(), **dict(encoder.named_parameters())}


def test_has_the_published_number_of_parameters() -> None:
    """ViT-S/16 at 224: 21.67 million with learned positions, which are the 197 D that a fixed embedding saves."""
    config, D = Encoder(name="vit_small"), 384
    with torch.device("meta"):
        encoder, reference = ViT(config, 224), torchvision_vit(config, 224)
    block = (3 * D * D + 3 * D) + (D * D + D) + (4 * D * D + 4 * D) + (4 * D * D + D) + 4 * D
    projection = 3 * 16 * 16 * D + D
    assert num_parameters(encoder) == projection + D + 12 * block + 2 * D == 21_590_016
    assert num_parameters(encoder) + 197 * D == num_parameters(reference) == 21_665_664
    trained = sum(w.numel() for w in encoder.parameters() if w.requires_grad)
    assert trained == 21_590_016 - projection == 21_294_720


@pytest.mark.parametrize("width", [0.25, 1])
def test_starts_as_moco_v3(width: float) -> None:
    """Kernels are uniform to Xavier's bound, q, k, v and the patches each as one linear map; all biases are 0."""
    torch.manual_seed(0)
    encoder = ViT(Encoder(name="vit_small", width=width, patch_size=8), 32)
    D = encoder.size
    kernels = {"patch_projection.weight": (encoder.patch_projection.weight, 3 * 8 * 8 + D)}
    for name, w in encoder.named_parameters():
        if name.endswith("qkv.weight"):
            kernels |= {f"{name} {part}": (third, D + D) for part, third in zip("qkv", w.chunk(3), strict=True)}
        elif w.ndim == 2:
            kernels[name] = (w, sum(w.shape))
        elif name.endswith("bias"):
            assert not w.any(), name
    assert len(kernels) == 1 + 12 * 6
    for name, (w, fans) in kernels.items():
        bound = math.sqrt(6 / fans)
        assert w.abs().max().item() == pytest.approx(bound, rel=0.01), name
        assert w.var().item() == pytest.approx(bound**2 / 3, rel=0.05), name
    assert encoder.class_token.std().item() == pytest.approx(1e-6, rel=0.3)
    assert {m.eps for m in encoder.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_the_patch_projection_is_drawn_from_the_seed_and_stored() -> None:
    """It isn't trained, so that a checkpoint must hold it: another seed has another one."""
    torch.manual_seed(0)
    first, second = ViT(SMALL, 32), ViT(SMALL, 32)
    assert not any(w.requires_grad for w in first.patch_projection.parameters())
    assert not torch.equal(first.patch_projection.weight, second.patch_projection.weight)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.patch_projection.weight, second.patch_projection.weight)
    torch.manual_seed(0)
    assert torch.equal(ViT(SMALL, 32).patch_projection.weight, first.patch_projection.weight)


def test_the_gradient_reaches_every_trained_parameter() -> None:
    """As it is drawn, all of the network but the patch projection has a gradient from z."""
    torch.manual_seed(0)
    model = SimCLR(PretrainRecipe(encoder=SMALL))
    _, z = model(views_of_a_step(8, 32))
    (z * torch.randn_like(z)).sum().backward()
    without = {name for name, w in model.named_parameters() if w.grad is None or not w.grad.any()}
    assert without == {"encoder.patch_projection.weight", "encoder.patch_projection.bias", "head.4.bias"}


def test_autocast_to_bfloat16_changes_little() -> None:
    """In bfloat16, h and the gradient of every parameter point where float32's do."""
    torch.manual_seed(0)
    encoder = ViT(SMALL, 32)
    trained = {name: w for name, w in encoder.named_parameters() if w.requires_grad}
    x = views_of_a_step(4, 32).contiguous(memory_format=torch.channels_last)
    direction = torch.randn(4, encoder.size)
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            h = encoder(x)
        gradients = torch.autograd.grad((h.float() * direction).sum(), list(trained.values()))
        results.append([h.detach(), *gradients])
    for name, exact, rounded in zip(["h", *trained], *results, strict=True):
        assert torch.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.99, name


def test_the_preset_is_moco_v3_s_setting() -> None:
    """At a batch of 4096, ViT-S/16 sees 14 x 14 patches and its head is 384 -> 4096 -> 4096 -> 256."""
    recipe = pretrain_recipe({"preset": "vit-small"})
    with torch.device("meta"):
        model = SimCLR(recipe)
    assert model.encoder.get_buffer("positions").shape == (14 * 14, 384)
    kernels = [tuple(w.shape) for w in model.head.parameters() if w.ndim == 2]
    assert kernels == [(4096, 384), (4096, 4096), (256, 4096)]
    assert (recipe.batch_size, recipe.preprocessing.crop_fraction) == (4096, 224 / 256)


def test_positions_count_towards_the_onnx_file() -> None:
    """The file holds the positions too: a network that fits without them is refused where they exceed 2 GiB."""
    encoder = Encoder(name="vit_small", width=4, patch_size=2)
    head = Head(num_layers=3, hidden_size=11_000)
    recipes = [
        PretrainRecipe(encoder=encoder, head=head, preprocessing=Preprocessing(image_size=side)) for side in (64, 512)
    ]
    with torch.device("meta"):
        assert num_parameters(SimCLR(recipes[0])) < MAX_PARAMETERS
        with pytest.raises(ValueError, match="at most 530000000 parameters"):
            SimCLR(recipes[1])
