"""The same file of ONNX behind mosec: a server in Rust, a process a core that decodes, one that embeds in batches.

    python benchmarks/mosec_endpoint.py MODEL.onnx PORT

mosec hands over the body of a request as it came; load.py's holds one file between two boundaries.
"""

import os
import sys
from pathlib import Path

import numpy as np
from machine import num_cores
from mosec import Server, Worker
from numpy.typing import NDArray

from models.embedder import Embedder
from models.preprocess import ImageLimits, decode, to_input

LIMITS = ImageLimits(max_bytes=10**8, max_pixels=10**9, max_side=10**5)


class Decode(Worker):  # type: ignore[misc]  # it ships no types
    """A request's file to the encoder's input."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = Embedder(Path(os.environ["MODEL"]), num_threads=1).preprocessing

    def deserialize(self, data: bytes) -> bytes:
        return data.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]

    def forward(self, data: bytes) -> NDArray[np.uint8]:
        return to_input(decode(data, LIMITS, self.preprocessing.storage_side).image, self.preprocessing)


class Embed(Worker):  # type: ignore[misc]  # as above
    """Inputs to h."""

    def __init__(self) -> None:
        super().__init__()
        self.embedder = Embedder(Path(os.environ["MODEL"]), num_threads=0)

    def forward(self, data: list[NDArray[np.uint8]]) -> list[dict[str, list[list[float]]]]:
        return [{"data": [h.tolist()]} for h in self.embedder.embed(np.stack(data))]


if __name__ == "__main__":
    os.environ |= {"MODEL": sys.argv[1], "MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PORT": sys.argv[2]}
    os.environ |= {"MOSEC_TIMEOUT": "60000", "MOSEC_LOG_LEVEL": "warning"}
    server = Server()
    server.append_worker(Decode, num=num_cores(), route="/v1/embeddings")
    server.append_worker(Embed, max_batch_size=16, max_wait_time=5, route="/v1/embeddings")
    server.run()
