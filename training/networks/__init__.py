"""Networks that exist for training alone and leave it as ONNX files: the speech tokenizer and the speaker embedder."""
