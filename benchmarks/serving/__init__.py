"""Measurements of a server that runs: cost, bursts, faults and long mixed traffic."""
