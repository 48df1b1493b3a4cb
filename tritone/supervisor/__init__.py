"""Starts a Triton server, keeps it answering, and stops it."""
