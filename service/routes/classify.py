"""What images show, as a linear probe or a fine-tuned model takes them.

Legend: M images, K classes.
"""

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from models.classifier import Classifier
from service import bodies
from service.attendance import AttendanceDep
from service.core.errors import Invalid, ServiceError
from service.core.keys import READ
from service.deps import ServicesDep
from service.embedding import Timings, Vector, raise_errors
from service.image_inputs import read_inputs
from service.model_cache import ServedModel
from service.refusals import may
from service.schemas.classify import Classification, ClassifiedImage, ClassifyForm, ClassifyRequest, LikelyClass
from service.schemas.embeddings import ItemError
from service.scopes import requires

router = APIRouter(prefix="/v1/classify", tags=["search"])


@router.post(
    "",
    response_model=Classification,
    responses=may(404, 409),
    openapi_extra=bodies.document(ClassifyForm, ClassifyRequest),
)
@requires(READ)
async def classify_images(request: Request, services: ServicesDep, attendance: AttendanceDep) -> Response:
    """Classify images by the classifier that a `linear_probe` or `finetune` job made: files of a form, or data URIs.

    Probabilities are the softmax of its logits. An image that fails has an `error` in place of its classes; the others
    are unharmed, and a request of which every image fails does too. The header Server-Timing says how many milliseconds
    went into waiting, decoding and computing.
    """
    timings = Timings()
    async with bodies.read_body(request, ClassifyRequest, ClassifyForm) as body:
        contents = await read_inputs(body, services.settings.max_images_per_request)
    classifier, model_id = await services.classifiers.get(services.caller.tenant, body.probe)
    model = await services.embedding.models.get(services.caller.tenant, model_id)
    _check_layer(model, classifier.layer)
    outcomes = await attendance.result(services.embedding.embed_each(contents, model, classifier.layer, timings))
    if all(isinstance(outcome, ServiceError) for outcome in outcomes):
        raise_errors(outcomes)
    answer = Classification(
        data=[_classified(i, outcome, classifier, body.top_k) for i, outcome in enumerate(outcomes)],
        model=model.row.id,
        probe=body.probe,
        layer=classifier.layer,
    )
    return Response(answer.model_dump_json(), media_type="application/json", headers=timings.header())


def _check_layer(model: ServedModel, layer: str) -> None:
    layers = model.embedder.layers
    if layer not in layers:
        message = f"a probe of {', '.join(layers)}, which the model is served with; this one is of {layer}"
        raise Invalid(f"probe: {message}", code="layer_not_served", errors=[{"field": "probe", "message": message}])


def _classified(index: int, outcome: Vector | ServiceError, classifier: Classifier, top_k: int) -> ClassifiedImage:
    if isinstance(outcome, ServiceError):
        error = ItemError(code=outcome.code, message=outcome.detail)
        return ClassifiedImage(index=index, classes=None, error=error)
    (probabilities,) = classifier.probabilities(outcome[None])
    return ClassifiedImage(index=index, classes=_likeliest(classifier, probabilities, top_k))


def _likeliest(classifier: Classifier, probabilities: NDArray[np.float64], top_k: int) -> list[LikelyClass]:
    """Of an image's probabilities, (K,), the highest; equal ones in the order of the classes."""
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [LikelyClass(name=classifier.classes[i], probability=float(probabilities[i])) for i in order]
