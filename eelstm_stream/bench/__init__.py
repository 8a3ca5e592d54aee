"""Benchmarks: each prints figures measured here, in one run, as ratios where that is what matters."""
