"""A deployed ONNX file as a differentiable network."""
