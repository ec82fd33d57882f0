"""An upload of images: each is decoded and embedded, the good ones are stored together, each gets its own answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from service.core.errors import Invalid, ServiceError, TooLarge
from service.deps import Services
from service.embedding import Timings
from service.image_store import LAYER, Kept, NewImage, image_id_of, store_images
from service.model_cache import ServedModel
from service.near_duplicates import Twin, find_twins
from service.problems import describe
from service.production import PRODUCTION
from service.schemas.images import ImagesForm, NearDuplicate, UploadedImage, UploadResult

MAX_FILENAME = 200


@dataclass(frozen=True)
class _File:
    """One part of the form."""

    id: str
    content: bytes
    filename: str | None
    label: str | None


async def upload_images(services: Services, form: ImagesForm, timings: Timings) -> UploadResult:
    """Store the images of a form with the vectors of the model in production, if there is one.

    A file that is no image fails alone. Whatever fails otherwise, the storage or the database, fails all of them.
    """
    check_number(len(form.files), services.settings.max_images_per_request)
    files = await _read(form)
    firsts: dict[str, _File] = {}
    for file in files:
        firsts.setdefault(file.id, file)
    distinct = list(firsts.values())  # in order: an image may be the twin of one before it
    find = services.embedding.models.find if form.on_duplicate == "keep" else services.embedding.models.get
    model = await find(services.caller.tenant, PRODUCTION)  # without one there is nothing to compare
    with services.embedding.admitted([file.content for file in distinct], model):
        images, errors = await _prepare(services, distinct, model, timings)
    twins = await _find_twins(services, images, form, model) if model else {}
    if form.on_duplicate == "reject":
        images = [image for image in images if image.id not in twins]
    kept = await _store(services, images, form, model)
    # Another model may have gone into production meanwhile: what is acknowledged is found by it, too.
    find = services.embedding.models.find
    while (serving := await find(services.caller.tenant, PRODUCTION)) and serving.row.id != _id(model):
        model = serving
        stored, _ = await _prepare(services, [file for file in distinct if file.id in kept], model, timings)
        await _store(services, stored, form, model)
    return UploadResult(items=_report(files, kept, errors, twins))


def _id(model: ServedModel | None) -> str | None:
    return model.row.id if model else None


async def _store(
    services: Services, images: Sequence[NewImage], form: ImagesForm, model: ServedModel | None
) -> dict[str, Kept]:
    return await run_in_threadpool(
        store_images,
        services.database,
        services.storage,
        images,
        collection=form.collection,
        metadata=form.metadata,
        model=model.row if model else None,
        limits=services.caller.limits,
    )


async def _find_twins(
    services: Services, images: Sequence[NewImage], form: ImagesForm, model: ServedModel
) -> dict[str, Twin]:
    """The near-duplicates among new images, if the form asks for them."""
    if form.on_duplicate == "keep":
        return {}
    return await run_in_threadpool(
        find_twins,
        services.database,
        images,
        collection=form.collection,
        model=model.row,
        threshold=form.duplicate_threshold,
        is_kept=form.on_duplicate == "report",
    )


def check_number(num_images: int, most: int) -> None:
    """Raise TooLarge for more images than a request may have."""
    if num_images > most:
        raise TooLarge(f"{num_images} images in one request; at most {most}", code="too_many_images")


async def _read(form: ImagesForm) -> list[_File]:
    labels = form.labels if form.labels is not None else [None] * len(form.files)
    if len(labels) != len(form.files):
        message = f"one for each of the {len(form.files)} files, not {len(labels)}"
        raise Invalid(f"labels: {message}", errors=[{"field": "labels", "message": message}])
    files = []
    for upload, label in zip(form.files, labels, strict=True):
        content = await upload.read()
        files.append(_File(image_id_of(content), content, displayed(upload.filename), label or form.label))
    return files


def displayed(filename: str | None) -> str | None:
    """A client's file name as a text that can be stored and shown; it never becomes a path."""
    if not filename:
        return None
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in filename)[-MAX_FILENAME:]


async def _prepare(
    services: Services, files: Sequence[_File], model: ServedModel | None, timings: Timings
) -> tuple[list[NewImage], dict[str, ServiceError]]:
    """The files that are images, decoded and embedded, and the errors of the others by id."""
    outcomes = await services.embedding.decode([file.content for file in files], model, timings)
    errors = {
        file.id: outcome for file, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, ServiceError)
    }
    good = [
        (file, outcome) for file, outcome in zip(files, outcomes, strict=True) if not isinstance(outcome, ServiceError)
    ]
    vectors = (
        await services.embedding.compute([decoded for _, decoded in good], model, LAYER, timings)
        if model
        else [None] * len(good)
    )
    images = [
        NewImage(
            id=file.id,
            content=file.content,
            format=decoded.format,
            width=decoded.width,
            height=decoded.height,
            filename=file.filename,
            label=file.label,
            vector=vector,
        )
        for (file, decoded), vector in zip(good, vectors, strict=True)
    ]
    return images, errors


def _report(
    files: Sequence[_File], kept: dict[str, Kept], errors: dict[str, ServiceError], twins: dict[str, Twin]
) -> list[UploadedImage]:
    """What became of each file; the second of two equal ones exists already."""
    items = []
    seen: set[str] = set()
    for file in files:
        twin = twins.get(file.id)
        near = NearDuplicate(id=twin.image_id, score=twin.score) if twin else None
        if file.id in errors:
            problem = describe(errors[file.id])
            item = UploadedImage(filename=file.filename, status="failed", id=None, label=file.label, error=problem)
        elif file.id not in kept:
            item = UploadedImage(
                filename=file.filename, status="rejected", id=file.id, label=file.label, near_duplicate=near
            )
        else:
            is_new, label = kept[file.id]
            status = "created" if is_new and file.id not in seen else "exists"
            item = UploadedImage(filename=file.filename, status=status, id=file.id, label=label, near_duplicate=near)
        seen.add(file.id)
        items.append(item)
    return items
