"""The service itself."""

from service.client.call import Call, get
from service.client.results import JSON


def get_system() -> Call[JSON]:
    """Workers with their devices and free slots, unfinished jobs, versions."""
    return get("/v1/system")


def get_readiness() -> Call[JSON]:
    """Whether database, storage and Redis can be used, and the model in production. Raises ApiError (503) if not."""
    return get("/readyz")


def get_recipes() -> Call[JSON]:
    """The presets, and the JSON Schema of every recipe."""
    return get("/v1/recipes")
