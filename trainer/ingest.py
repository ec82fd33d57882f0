"""Turn an uploaded archive into a packed data set: `python -m trainer.ingest RUN_FOLDER`.

The archive is read twice: once to check all of it, to find duplicates and to decide splits and classes, once to decode
and pack. Nothing of an archive that is refused is kept. Exits with 0 and result.json, or with 1 and error.json; at
SIGTERM with INTERRUPTED, at once: there is nothing to save.
"""

import errno
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from models.config import IngestRecipe
from models.preprocess import PREPROCESSING_VERSION, ImageLimits
from trainer.archive import read_members
from trainer.archive_limits import ArchiveError, ArchiveLimits
from trainer.contents import Contents, Original, Rejection, survey
from trainer.decoding import DecodingPool, Outcome, Stored
from trainer.layout import Place
from trainer.pack import FILES, NO_LABEL, SPLITS, PackWriter
from trainer.run import INTERRUPTED, IngestLimits, RunError, RunFolder

PROGRESS_SECONDS = 0.2
SPLIT_OVERLAP = "images that lie in several splits are kept once, in train before test before val"


@dataclass(frozen=True)
class Tally:
    """What was packed and what was not."""

    classes: list[str]
    packed: list[Original] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)  # (width, height) of the packed, before reduction
    rejected: list[Rejection] = field(default_factory=list)


def ingest(run: RunFolder) -> dict[str, Any]:
    """Write the pack into output/ and return what result.json says. Raises RunError, ArchiveError, OSError."""
    spec = run.spec()
    recipe = IngestRecipe.model_validate(spec.recipe)
    assert spec.limits is not None
    archive_limits, image_limits = _limits(spec.limits)
    run.emit("stage", stage="checking", step=0, steps=1)
    contents = survey(read_members(run.archive, archive_limits))
    if contents.num_across_splits:
        run.emit("warning", code="split_overlap", num_images=contents.num_across_splits, message=SPLIT_OVERLAP)
    members = (member for member in read_members(run.archive, archive_limits) if member[0] in contents.originals)
    with (
        PackWriter(run.output, storage_side=recipe.storage_side, preprocessing_version=PREPROCESSING_VERSION) as writer,
        DecodingPool(image_limits, recipe.storage_side, timeout_seconds=spec.limits.decode_timeout_seconds) as pool,
    ):
        outcomes = _with_progress(run, pool.decode(members), len(contents.originals))
        tally = _pack(contents, outcomes, writer)
        _refuse_unusable(tally, recipe)
        writer.close(tally.classes)
    return _result(tally)


def _limits(limits: IngestLimits) -> tuple[ArchiveLimits, ImageLimits]:
    return ArchiveLimits(
        max_bytes=limits.max_archive_bytes,
        max_member_bytes=limits.max_image_bytes,
        max_ratio=limits.max_archive_ratio,
        max_entries=limits.max_archive_entries,
    ), ImageLimits(
        max_bytes=limits.max_image_bytes,
        max_pixels=limits.max_image_pixels,
        max_side=limits.max_image_side,
    )


def _with_progress(
    run: RunFolder, outcomes: Iterable[tuple[str, Outcome]], steps: int
) -> Iterator[tuple[str, Outcome]]:
    reported_at = 0.0
    for step, outcome in enumerate(outcomes, 1):
        yield outcome
        now = time.monotonic()
        if now - reported_at >= PROGRESS_SECONDS or step == steps:
            run.emit("stage", stage="unpacking", step=step, steps=steps)
            reported_at = now


def _pack(contents: Contents, outcomes: Iterable[tuple[str, Outcome]], writer: PackWriter) -> Tally:
    names = {original.place.class_name for original in contents.originals.values()}
    tally = Tally(classes=sorted(name for name in names if name is not None), rejected=list(contents.rejected))
    labels = {None: NO_LABEL} | {name: label for label, name in enumerate(tally.classes)}
    for name, outcome in outcomes:
        original = contents.originals[name]
        if isinstance(outcome, Stored):
            place = original.place
            writer.add(outcome.pixels, label=labels[place.class_name], split=place.split, sha256=original.sha256)
            tally.packed.append(original)
            tally.sizes.append((outcome.width, outcome.height))
        else:
            copies = (original.name, *original.copies)
            tally.rejected.extend(Rejection(copy, outcome.code, outcome.detail) for copy in copies)
    return tally


def _without_images(rejected: list[Rejection]) -> str:
    what = "put JPEG, PNG or WebP files in it"
    if not rejected:
        return f"the archive has no image; {what}"
    first = rejected[0]
    return f"none of the archive's {len(rejected)} files is a readable image ({first.name}: {first.detail}); {what}"


def _refuse_unusable(tally: Tally, recipe: IngestRecipe) -> None:
    details = {"rejected": [asdict(rejection) for rejection in tally.rejected]}
    if tally.rejected and recipe.on_invalid == "reject":
        first = "; ".join(f"{r.name!r}: {r.detail}" for r in tally.rejected[:3])
        message = (
            f"{len(tally.rejected)} of the archive's files can't be used ({first});"
            " remove them, or upload with on_invalid=skip to leave them out"
        )
        raise RunError("invalid_images", message, details=details)
    if not tally.packed:
        raise RunError("no_images", _without_images(tally.rejected), details=details)


def _result(tally: Tally) -> dict[str, Any]:
    sizes = np.array(tally.sizes)  # (N, 2)
    return {
        "num_images": len(tally.packed),
        "num_duplicates": sum(len(original.copies) for original in tally.packed),
        "num_rejected": len(tally.rejected),
        "classes": tally.classes,
        "splits": _splits(tally),
        "image_sizes": {
            "min": sizes.min(axis=0).tolist(),
            "median": np.median(sizes, axis=0).astype(int).tolist(),
            "max": sizes.max(axis=0).tolist(),
        },
        "rejected": [asdict(rejection) for rejection in tally.rejected],
    }


def _splits(tally: Tally) -> dict[str, Any]:
    counts = Counter(original.place for original in tally.packed)
    totals = Counter(original.place.split for original in tally.packed)
    return {
        split: {
            "num_images": totals[split],
            "per_class": [counts[Place(split, name)] for name in tally.classes],
        }
        for split in SPLITS
        if totals[split]
    }


@contextmanager
def _failures_named() -> Iterator[None]:
    """Turn what can go wrong with an archive or a disk into RunError."""
    try:
        yield
    except ArchiveError as error:
        raise RunError(error.code, error.detail) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise RunError("storage_full", "the worker's disk has no space left for the packed images") from error
        raise


def _stop_at_once(_signal: int, _frame: object) -> NoReturn:
    os._exit(INTERRUPTED)  # the decoding processes die with this one


def main(folder: Path) -> int:
    """Ingest the archive of a run folder; the exit status."""
    run = RunFolder(folder)
    try:
        with _failures_named():
            run.succeed(ingest(run))
    except RunError as error:
        for name in FILES:  # first, so that a full disk has room for the reason
            (run.output / name).unlink(missing_ok=True)
        run.fail(error)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop_at_once)
    sys.exit(main(Path(sys.argv[1])))
