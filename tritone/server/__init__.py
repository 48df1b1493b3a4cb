"""Finding, starting, watching and stopping the Triton server that the nvidia-pytriton wheel carries."""
