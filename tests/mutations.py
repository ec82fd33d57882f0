"""Breaks one line of the mathematics at a time and runs the tests that should notice.

    python -m tests.mutations [NAME ...]

Each mutation is made in a copy of the tree. Prints a line for each, and exits with 1 if a broken line went unnoticed,
if the tests fail without any change, or if a line to break is no longer there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAILED_TESTS = 1  # pytest's exit status; another one means that they did not run


@dataclass(frozen=True)
class Mutation:
    """One deliberate mistake: in `file`, `old` (which occurs once) becomes `new`; `tests` should fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def broken(self, text: str) -> str:
        """The file's text with the mistake. Raises ValueError if the line is not there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} occurs {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


MUTATIONS = [
    Mutation(
        "nt-xent: an anchor is its own negative",
        "trainer/losses/similarities.py",
        "s.diagonal(block.itself).fill_(-torch.inf)",
        "s.diagonal(block.itself)",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent: pushes the positive away",
        "trainer/losses/nt_xent.py",
        "return (lse - positive).mean()",
        "return (lse + positive).mean()",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent: pairs an image with its neighbour",
        "trainer/losses/nt_xent.py",
        "positive = (everyone * everyone.roll(len(everyone) // 2, 0))",
        "positive = (everyone * everyone.roll(1, 0))",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent: no l2 normalisation",
        "trainer/losses/nt_xent.py",
        "F.normalize(z, dim=1) if normalize else z",
        "z",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent: normalised over the batch",
        "trainer/losses/nt_xent.py",
        "F.normalize(z, dim=1)",
        "F.normalize(z, dim=0)",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent: the gradient forgets the columns",
        "trainer/losses/nt_xent.py",
        "weights += s.sub_(lse[block.columns]).exp_()",
        "weights += 0",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent: temperature multiplies",
        "trainer/losses/similarities.py",
        "(z[block.rows] / temperature)",
        "(z[block.rows] * temperature)",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "nt-xent kernel: an anchor is its own negative",
        "trainer/losses/nt_xent_triton.py",
        "allowed = (i != k) & (k < num_views)",
        "allowed = k < num_views",
        "tests/trainer/losses/test_nt_xent_triton.py",
    ),
    Mutation(
        "nt-logistic: negatives attract",
        "trainer/losses/nt_logistic.py",
        "-F.logsigmoid(-negatives)",
        "-F.logsigmoid(negatives)",
        "tests/trainer/losses/test_nt_logistic.py",
    ),
    Mutation(
        "margin: positive and negative swapped",
        "trainer/losses/margin.py",
        "F.relu(negatives - positives + margin)",
        "F.relu(positives - negatives + margin)",
        "tests/trainer/losses/test_margin.py",
    ),
    Mutation(
        "semi-hard: takes the hardest",
        "trainer/losses/pairs.py",
        "negatives.masked_fill(negatives >= positives, -torch.inf)",
        "negatives",
        "tests/trainer/losses/test_margin.py tests/trainer/losses/test_pairs.py",
    ),
    Mutation(
        "lars: weight decay after the trust ratio",
        "trainer/optim.py",
        "_trust_ratios(weights, gradients)",
        "_trust_ratios(weights, [w.grad for w in weights])",
        "tests/trainer/test_optim.py",
    ),
    Mutation(
        "lars: rate outside the momentum buffer",
        "trainer/optim.py",
        "torch._foreach_sub_(weights, buffers)",
        'torch._foreach_sub_(weights, buffers, alpha=group["lr"])',
        "tests/trainer/test_optim.py",
    ),
    Mutation(
        "lars: batch norm and biases adapt",
        "trainer/optim.py",
        'groups[1]["adapt"] = False',
        'groups[1]["adapt"] = True',
        "tests/trainer/test_optim.py",
    ),
    Mutation(
        "schedule: warm-up starts a step late",
        "trainer/optim.py",
        "return peak * step / warmup_steps",
        "return peak * (step - 1) / warmup_steps",
        "tests/trainer/test_optim.py",
    ),
    Mutation(
        "schedule: cosine over all steps",
        "trainer/optim.py",
        "schedule.epochs * steps_per_epoch - warmup_steps",
        "schedule.epochs * steps_per_epoch",
        "tests/trainer/test_optim.py",
    ),
    Mutation(
        "step: h in another order",
        "trainer/step.py",
        "h = torch.cat(views, 1).flatten(0, 1).requires_grad_()",
        "h = torch.cat(views, 0).flatten(0, 1).requires_grad_()",
        "tests/trainer/test_step.py",
    ),
    Mutation(
        "step: microbatches mix up the views",
        "trainer/step.py",
        "return torch.cat((x1[part], x2[part]))",
        "return torch.cat((x2[part], x1[part]))",
        "tests/trainer/test_step.py",
    ),
    Mutation(
        "step: statistics move twice",
        "trainer/step.py",
        "norm.momentum = 0.0",
        "norm.momentum = 0.1",
        "tests/trainer/test_step.py",
    ),
    Mutation(
        "step: a pass for each view",
        "trainer/step.py",
        "h = model.encoder(x)  # (2N, C)",
        "h = torch.cat([model.encoder(view) for view in x.chunk(2)])  # (2N, C)",
        "tests/trainer/test_step.py",
    ),
    Mutation(
        "resnet: last gamma starts at 1",
        "models/resnet.py",
        "nn.init.zeros_(norm.weight)",
        "nn.init.ones_(norm.weight)",
        "tests/models/test_resnet.py",
    ),
    Mutation(
        "head: ReLU after the last layer",
        "models/heads.py",
        "self.extend([linear, norm] if i == last else [linear, norm, nn.ReLU()])",
        "self.extend([linear, norm, nn.ReLU()])",
        "tests/models/test_heads.py",
    ),
    Mutation(
        "crop: not antialiased",
        "trainer/augment/crop.py",
        "reach = scale.clamp(min=1)",
        "reach = scale.clamp(max=1)",
        "tests/trainer/augment/test_crop.py",
    ),
    Mutation(
        "crop: area uniform in the side",
        "trainer/augment/boxes.py",
        "area = heights * widths * uniform(columns[2::2], *config.crop_area)",
        "area = heights * widths * uniform(columns[2::2], *config.crop_area) ** 2",
        "tests/trainer/augment/test_boxes.py",
    ),
    Mutation(
        "crop: ratio not log-uniform",
        "trainer/augment/boxes.py",
        "np.exp(uniform(columns[3::2], *np.log(config.crop_ratio)))",
        "uniform(columns[3::2], *config.crop_ratio)",
        "tests/trainer/augment/test_boxes.py",
    ),
    Mutation(
        "jitter: not clipped",
        "trainer/augment/color.py",
        "on_rows(planes, shift.flatten() != 0, shift_hue, shift).clamp_(0, 1)",
        "on_rows(planes, shift.flatten() != 0, shift_hue, shift)",
        "tests/trainer/augment/test_color.py",
    ),
    Mutation(
        "jitter: both views alike",
        "trainer/augment/draws.py",
        "table = generator.random((self.num_images, 2, num_columns))",
        "table = generator.random((self.num_images, 1, num_columns)).repeat(2, 1)",
        "tests/trainer/augment/test_parameters.py",
    ),
    Mutation(
        "blur: kernel not normalised",
        "trainer/augment/blur.py",
        "taps.div_(taps.sum(1, keepdim=True))",
        "taps.div_(math.sqrt(2 * math.pi) * sigma[:, None])",
        "tests/trainer/augment/test_blur.py",
    ),
    Mutation(
        "noise: half a turn",
        "trainer/augment/noise.py",
        "v.mul_(2 * math.pi).cos_()",
        "v.mul_(math.pi).cos_()",
        "tests/trainer/augment/test_noise.py",
    ),
    Mutation(
        "rotation: clockwise",
        "trainer/augment/rotation.py",
        "views.rot90(1, (-2, -1))",
        "views.rot90(3, (-2, -1))",
        "tests/trainer/augment/test_rotation.py",
    ),
    Mutation(
        "loop: the schedule isn't followed",
        "trainer/loop.py",
        'group["lr"] = rate',
        'group["lr"] = peak',
        "tests/trainer/test_loop.py",
    ),
    Mutation(
        "batches: every epoch has the same views",
        "trainer/batches.py",
        "step=step",
        "step=batch_number",
        "tests/trainer/test_batches.py",
    ),
    Mutation(
        "step: bfloat16 is ignored",
        "trainer/step.py",
        'enabled=recipe.precision == "bfloat16"',
        "enabled=False",
        "tests/trainer/test_step.py",
    ),
    Mutation(
        "nt-xent: the gradient has one positive",
        "trainer/losses/nt_xent.py",
        "(joined_rows(parts) - 2 * z.roll(len(z) // 2, 0))",
        "(joined_rows(parts) - z.roll(len(z) // 2, 0))",
        "tests/trainer/losses/test_nt_xent.py",
    ),
    Mutation(
        "sgd: no momentum",
        "trainer/optim.py",
        "torch.optim.SGD(groups, lr=0.0, momentum=config.momentum",
        "torch.optim.SGD(groups, lr=0.0, momentum=0.0",
        "tests/trainer/test_optim.py",
    ),
    Mutation(
        "ranks: views of all are in the order of ranks",
        "trainer/ranks.py",
        "views.transpose(0, 1).flatten(0, 2)",
        "views.flatten(0, 2)",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "ranks: x2 of another rank's images",
        "trainer/ranks.py",
        "slice(N + own.start, N + own.stop)",
        "slice(2 * N - own.stop, 2 * N - own.start)",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "batch norm: the gradient of the own values' statistics",
        "trainer/batch_norm.py",
        "ctx.ranks.gather(torch.stack((d_gamma, d_beta))).sum(0)",
        "torch.stack((d_gamma, d_beta)) * ctx.ranks.size",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "batch norm: no gradient through the statistics",
        "trainer/batch_norm.py",
        "return second.add_(dx), d_gamma",
        "return dx, d_gamma",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "batch norm: ranks' means are not apart",
        "trainer/batch_norm.py",
        "variances.mean(0) + means.var(0, correction=0)",
        "variances.mean(0)",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "batch norm: the running variance is biased",
        "trainer/batch_norm.py",
        "var * (count / (count - 1))",
        "var",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "batch norm: counts a rank's own values",
        "trainer/batch_norm.py",
        "x.numel() // self.num_features * self.ranks.size)",
        "x.numel() // self.num_features)",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "ablation: chosen by the test images",
        "service/core/ablation_table.py",
        "statistics.mean(held_out) if held_out else None",
        "statistics.mean(top1) if top1 else None",
        "tests/trainer/test_ablation.py",
    ),
    Mutation(
        "replica: the mean of the ranks' gradients",
        "trainer/replica.py",
        "done.value()[0]",
        "done.value()[0] / dist.get_world_size()",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "replica: the head keeps its gradients",
        "trainer/replica.py",
        "_sharing_gradients(model.head)",
        "model.head",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "step: no microbatch shares its gradients",
        "trainer/step.py",
        "nullcontext() if part is parts[-1] else gradients_kept",
        "nullcontext() if part is None else gradients_kept",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "nt-xent: the first rank's rows of the gradient",
        "trainer/losses/nt_xent.py",
        "lse, rows.start, rows.stop, ctx.temperature",
        "lse, 0, rows.stop - rows.start, ctx.temperature",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "pairs: the gradient of the own anchors alone",
        "trainer/losses/pairs.py",
        "gradient = ranks.sum(leaf.grad)",
        "gradient = leaf.grad",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "pairs: the first rank's rows of the gradient",
        "trainer/losses/pairs.py",
        "joined_rows([gradient[rows] for rows in own])",
        "gradient[: len(z)]",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "batches: every rank draws for itself",
        "trainer/batches.py",
        "drawn.rows(own)",
        "drawn.rows(slice(0, own.stop - own.start))",
        "tests/trainer/test_distributed.py",
    ),
    Mutation(
        "report: Fig. 5's first operation is across",
        "service/report/matrix.py",
        "[(value[0], value[-1]) for value in lists]",
        "[(value[-1], value[0]) for value in lists]",
        "tests/service/report/test_matrix.py",
    ),
    Mutation(
        "report: confusion as shares of what was predicted",
        "service/report/probe.py",
        "counts.sum(axis=1, keepdims=True)",
        "counts.sum(axis=0, keepdims=True)",
        "tests/service/report/test_probe.py",
    ),
    Mutation(
        "loop: a rank stops alone",
        "trainer/loop.py",
        "stop, save = ranks.any(should_stop(), time.monotonic() >= save_at)",
        "stop, save = should_stop(), time.monotonic() >= save_at",
        "tests/trainer/test_ranks.py::test_sigterm_on_one_rank_stops_all",
    ),
    Mutation(
        "labels: classic momentum",
        "trainer/supervised.py",
        "nesterov=True",
        "nesterov=False",
        "tests/trainer/test_supervised.py",
    ),
    Mutation(
        "fine-tuning: batch norm in eval mode",
        "trainer/finetune.py",
        "    network.train()\n",
        "    network.eval()\n",
        "tests/trainer/test_finetune.py::test_two_steps_are_those_of_the_equation",
    ),
    Mutation(
        "fine-tuning: all labels",
        "trainer/probes/splits.py",
        "members[: num_of(len(members))]",
        "members",
        "tests/trainer/probes/test_splits.py",
    ),
    Mutation(
        "classifier: no bias",
        "models/classifier.py",
        "(h @ self.weight.T + self.bias)",
        "(h @ self.weight.T)",
        "tests/models/test_classifier.py",
    ),
    Mutation(
        "export: test images calibrate",
        "trainer/export_sample.py",
        'train = generator.permutation(pack.split("train"))',
        "train = generator.permutation(len(pack))",
        "tests/trainer/test_export_sample.py",
    ),
    Mutation(
        "agreement: an image is its own neighbour",
        "models/agreement.py",
        "np.fill_diagonal(similarity, -np.inf)",
        "np.fill_diagonal(similarity, np.inf)",
        "tests/models/test_agreement.py",
    ),
    Mutation(
        "preprocess: a JPEG is reduced below the storage side",
        "models/preprocess.py",
        "if shorter // factor >= storage_side",
        "if 2 * (shorter // factor) >= storage_side",
        "tests/models/test_preprocess.py",
    ),
    Mutation(
        "admission: a batch costs what an image does",
        "service/admission.py",
        "(seconds / num_images - self._costs[name])",
        "(seconds - self._costs[name])",
        "tests/service/test_admission.py",
    ),
    Mutation(
        "cores: an image that took long gives its core back twice",
        "service/cores.py",
        "            self._is_held = False\n",
        "",
        "tests/service/test_cores.py",
    ),
    Mutation(
        "batcher: a lone image has a lane, not all cores",
        "service/batcher.py",
        "(num_waiting >= self._num_lanes > 1 or not are_all_free)",
        "(self._num_lanes > 1)",
        "tests/service/test_batcher.py",
    ),
    Mutation(
        "ablation: combinations are made before they are counted",
        "models/ablation.py",
        "math.prod(map(len, self.grid.values())) * len(self.seeds)",
        "1",
        "tests/models/test_ablation.py",
    ),
    Mutation(
        "filters: nothing is said of what has no such field",
        "service/core/members.py",
        "not coalesce({self.sql(condition.filter)}, false)",
        "not ({self.sql(condition.filter)})",
        "tests/service/core/test_members.py",
    ),
    Mutation(
        "filters: numbers are compared as texts",
        "service/core/members.py",
        "= 'number' and {' and '.join(bounds)}",
        "= 'string' and {' and '.join(bounds)}",
        "tests/service/core/test_members.py",
    ),
    Mutation(
        "search: an index that was given up has the last word",
        "service/core/index_search.py",
        "if len(rows) < num_candidates and members:",
        "if False:",
        "tests/service/core/test_nearest.py",
    ),
    Mutation(
        "search: half precision has the last word",
        "service/core/index_search.py",
        "return sorted(hits, key=lambda hit: (-hit.score, hit.image_id))[:k]",
        "return hits[:k]",
        "tests/service/core/test_nearest.py",
    ),
    Mutation(
        "recall: a vector is its own neighbour",
        "service/core/recall.py",
        "if hit.image_id != image_id][:NUM_NEIGHBORS]",
        "][:NUM_NEIGHBORS]",
        "tests/service/core/test_recall.py",
    ),
    Mutation(
        "duplicates: a page cuts its groups",
        "service/core/duplicates.py",
        "frontier = sorted({other for others in links.values() for other in others} - links.keys())",
        "frontier = []",
        "tests/service/core/test_duplicates.py",
    ),
    Mutation(
        "map: axes point where they happen to",
        "service/core/projection.py",
        "axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])",
        "axes *= 1",
        "tests/service/core/test_projection.py",
    ),
    Mutation(
        "quality: an image is its own neighbour",
        "service/core/quality.py",
        "for hit in hits if hit.image_id != image_id][:k]",
        "for hit in hits][:k]",
        "tests/service/core/test_quality.py",
    ),
    Mutation(
        "tenants: a session sees everyone's rows",
        "service/core/db.py",
        "lambda cls: cls.tenant == tenant",
        "lambda cls: cls.tenant == cls.tenant",
        "tests/service/core/test_db.py",
    ),
    Mutation(
        "tenants: a model indexes everyone's images",
        "service/core/vectors.py",
        "filter(Image.tenant == table.tenant, ",
        "filter(",
        "tests/service/core/test_vectors.py",
    ),
    Mutation(
        "keys: one that was revoked is accepted",
        "service/keyring.py",
        "if key.revoked_at is not None:",
        "if False:",
        "tests/service/test_keyring.py",
    ),
    Mutation(
        "keys: one that is remembered never expires",
        "service/keyring.py",
        "key.expires_at <= datetime.now(UTC)",
        "False",
        "tests/service/test_keyring.py",
    ),
    Mutation(
        "keys: a valid one may do everything",
        "service/caller.py",
        "return scope in self.scopes or ADMIN in self.scopes",
        "return True",
        "tests/service/test_keyring.py",
    ),
]


def copy_tree(folder: Path) -> Path:
    """The packages and their tests, in a new folder."""
    tree = Path(tempfile.mkdtemp(dir=folder))
    for name in ("models", "trainer", "service", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def run_tests(tree: Path, tests: str) -> int:
    """Exit status of pytest on the tree's own packages; the copy comes first on the path, before the installed one."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False).returncode


def outcome(mutation: Mutation, folder: Path) -> str:
    """`caught`, or what went wrong."""
    tree = copy_tree(folder)
    path = tree / mutation.file
    path.write_text(mutation.broken(path.read_text()))
    status = run_tests(tree, mutation.tests)
    shutil.rmtree(tree)
    return "caught" if status == FAILED_TESTS else f"NOT CAUGHT (pytest's status {status})"


def chosen(names: Iterable[str]) -> list[Mutation]:
    """The mutations of these names, or all."""
    wanted = set(names)
    unknown = wanted - {mutation.name for mutation in MUTATIONS}
    if unknown:
        sys.exit(f"no mutation named {', '.join(sorted(unknown))}; there are: {', '.join(m.name for m in MUTATIONS)}")
    return [mutation for mutation in MUTATIONS if not wanted or mutation.name in wanted]


def main() -> int:
    """Run the mutations that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    mutations = chosen(parser.parse_args().names)
    survivors = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        tests = " ".join(sorted({file for mutation in mutations for file in mutation.tests.split()}))
        unbroken = pool.submit(run_tests, copy_tree(Path(folder)), tests)
        for mutation, result in zip(mutations, pool.map(lambda m: outcome(m, Path(folder)), mutations), strict=True):
            print(f"{result:12} {mutation.name:40} {mutation.file}", flush=True)
            survivors += result != "caught"
        if unbroken.result():
            sys.exit(f"the tests fail without any change: pytest {tests}")
    print(f"{len(mutations) - survivors} of {len(mutations)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
