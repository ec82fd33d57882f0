"""The processes of an ablation's child jobs without training: `python fake_ablation_run.py RUN_FOLDER`.

A pretraining takes a third of a second and leaves the files of a model; a probe leaves a head, with a top-1 of 0.5.
"""

import json
import sys
import time
from pathlib import Path

MODEL = {"recipe": {}, "preprocessing": {}, "layers": {"h": 4}, "parity_cosine": 1.0}
MODEL["variants"] = {"float32": {"status": "published"}}
FILES = {"model.onnx": "{}", "encoder.pt": "{}", "model.json": json.dumps(MODEL)}

run = Path(sys.argv[1])
if json.loads((run / "spec.json").read_text())["kind"] == "pretrain":
    time.sleep(1 / 3)
    for name, content in FILES.items():
        (run / "output" / name).write_text(content)
    result = {"steps": 1, "measures": {"entropy": 2.5}}
else:
    (run / "output" / "head.npz").touch()
    result = {"top1": 0.5, "confidence_interval": [0.4, 0.6]}
(run / "result.json").write_text(json.dumps(result))
