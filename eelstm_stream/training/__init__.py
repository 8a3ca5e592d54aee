"""Training of model files. Needs the extra `train`; no daemon imports it."""
