"""What to expect of 8 to 512 GPUs: arithmetic (docs/scale.md) from one GPU's images a second and the messages' sizes.

    python benchmarks/scale_arithmetic.py [--preset imagenet] [--batch-size 4096] [--images-per-second 2000]

A model, not a measurement. With n = N / W images a GPU, a step takes

    compute         n / images a second of one GPU
    batch norm      2 collective operations a norm, of a few kB: their latency, not hidden
    projections     all-gather of z (2N, D) and of 2N sums: not hidden
    gradients       ring all-reduce, 2 (W - 1) / W bytes over the slowest link; hidden behind two thirds of the compute
"""

import argparse
import math

from scaling import bytes_a_step

from models.config import pretrain_recipe

GPUS_A_NODE = 8
NVLINK_BYTES_PER_SECOND = 300e9  # of an all-reduce within a node of H100s; assumed
NETWORK_BYTES_PER_SECOND = 40e9  # of a GPU's own 400 Gb/s adapter; assumed
NODE_LATENCY_SECONDS = 20e-6  # of a short collective operation within a node; assumed
HOP_LATENCY_SECONDS = 10e-6  # more for each doubling of the nodes; assumed
BACKWARD_SHARE = 2 / 3


def step_seconds(sizes: dict[str, int], n: int, num_gpus: int, images_per_second: float) -> dict[str, float]:
    """Seconds of the parts of a step; those of the gradients that are not hidden."""
    nodes = math.ceil(num_gpus / GPUS_A_NODE)
    bandwidth = NVLINK_BYTES_PER_SECOND if nodes == 1 else NETWORK_BYTES_PER_SECOND
    latency = NODE_LATENCY_SECONDS + HOP_LATENCY_SECONDS * math.log2(nodes)
    others = (num_gpus - 1) / num_gpus
    compute = n / images_per_second
    gradients = 2 * others * sizes["gradients"] / bandwidth + 2 * latency * num_gpus / GPUS_A_NODE
    return {
        "compute": compute,
        "batch norm": 2 * sizes["num_batch_norms"] * latency,
        "projections": 2 * latency + (num_gpus - 1) * sizes["projections"] / bandwidth,
        "gradients": max(0.0, gradients - BACKWARD_SHARE * compute),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--batch-size", type=int, default=4096, help="images a step of all GPUs together")
    parser.add_argument("--images-per-second", type=float, default=2000, help="of one GPU alone")
    options = parser.parse_args()
    recipe = pretrain_recipe({"preset": options.preset, "batch_size": options.batch_size})
    print(
        f"{recipe.encoder.name}, {options.batch_size} images a step, {options.images_per_second:g} images/s a GPU; ms"
    )
    print("| GPUs | images a GPU | compute | batch norm | projections | gradients left | efficiency | images/s |")
    print("|---|---|---|---|---|---|---|---|")
    for num_gpus in (8, 16, 32, 64, 128, 256, 512):
        n = options.batch_size // num_gpus
        if not n:
            break
        parts = step_seconds(bytes_a_step(recipe, num_gpus), n, num_gpus, options.images_per_second)
        total = sum(parts.values())
        cells = [num_gpus, n, *(f"{1e3 * value:.1f}" for value in parts.values())]
        cells += [f"{parts['compute'] / total:.0%}", f"{options.batch_size / total:,.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
