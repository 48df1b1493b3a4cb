"""A client for the speech models served by Triton; needs tritonclient and NumPy only."""
