"""Networks, recipes, image decoding, ONNX export and the embedder that serves it."""
