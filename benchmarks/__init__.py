"""Measurements of quality and speed; each command writes JSON and a page with a plot into build/benchmarks/."""
