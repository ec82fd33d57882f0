"""The same file of ONNX behind LitServe, as its documentation writes an endpoint that batches.

    python benchmarks/litserve_endpoint.py MODEL.onnx PORT

A worker decodes the files of a batch one by one, embeds them at once, and the server's process answers.
"""

import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found]  # of benchmarks/requirements.txt
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from models.embedder import Embedder
from models.preprocess import ImageLimits, decode, to_input

LIMITS = ImageLimits(max_bytes=10**8, max_pixels=10**9, max_side=10**5)


class Embeddings(litserve.LitAPI):  # type: ignore[misc]  # it ships no types
    """Embeds one file a request, up to sixteen in a batch."""

    def setup(self, device: str) -> None:
        self.embedder = Embedder(Path(sys.argv[1]), num_threads=0)

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        preprocessing = self.embedder.preprocessing
        content = request["files"].file.read()  # LitServe hands over the form
        return to_input(decode(content, LIMITS, preprocessing.storage_side).image, preprocessing)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.embedder.embed(np.stack(list(images)))

    def encode_response(self, h: NDArray[np.float32]) -> dict[str, Any]:
        return {"data": [h.tolist()]}


if __name__ == "__main__":
    api = Embeddings(max_batch_size=16, batch_timeout=0.005, api_path="/v1/embeddings")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
