"""What a competent person writes in twenty lines: FastAPI, torch, torchvision's transforms, a route in the thread pool.

python benchmarks/naive_endpoint.py EXPORTED_FOLDER PORT
"""

import io
import sys
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision.transforms import v2

from models.export import load_model

model, recipe = load_model(Path(sys.argv[1]))
side = recipe.preprocessing.image_size
transform = v2.Compose(
    [
        v2.Resize(round(side / recipe.preprocessing.crop_fraction), v2.InterpolationMode.BICUBIC),
        v2.CenterCrop(side),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
    ]
)
app = FastAPI()


@app.post("/v1/embeddings")
def embed(files: list[UploadFile]) -> dict[str, list[list[float]]]:
    """The vectors of the files."""
    images = [transform(Image.open(io.BytesIO(file.file.read())).convert("RGB")) for file in files]
    with torch.inference_mode():
        h, _ = model(torch.stack(images))
    return {"data": h.tolist()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
