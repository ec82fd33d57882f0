"""A small trained-looking network and its export."""

import torch
from torch import nn

from models.config import PretrainRecipe, pretrain_recipe
from models.simclr import SimCLR

RECIPE = pretrain_recipe({"preset": "cpu-small", "head": {"output_size": 16}})


def network(recipe: PretrainRecipe = RECIPE, seed: int = 0) -> SimCLR:
    """A network whose batch norms have weights and statistics of their own, as after training; in training mode."""
    torch.manual_seed(seed)
    model = SimCLR(recipe)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model
