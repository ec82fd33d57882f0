"""What a process of the API measures of itself, for as long as it lives; `GET /metrics` shows it."""

from service.exposition import Counter, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("simclr_requests_total", "Requests that were answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "simclr_request_seconds", "From a request to the first byte of its answer.", SECONDS, ["method", "route"]
)
STAGE_SECONDS = Histogram(
    "simclr_embed_stage_seconds",
    "Waiting for one's turn to be decoded, decoding, waiting for a batch (queue), computing it.",
    SECONDS,
    ["stage"],
)
BATCH_IMAGES = Histogram("simclr_embed_batch_images", "Images that were computed together.", (1, 2, 4, 8, 16, 32, 64))
IMAGES = Counter("simclr_embed_images_total", "Images to embed, by where their vectors came from.", ["source"])

ALL = (REQUESTS, REQUEST_SECONDS, STAGE_SECONDS, BATCH_IMAGES, IMAGES)
