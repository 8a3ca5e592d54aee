"""Forecasting of in situ electron energy loss spectra, beside the instrument."""

import os

# onnxruntime's Linux wheels report usage over the network, with an identifier of the machine, unless this is set before
# they load (its Privacy.md says so). Here, because nothing of ours is imported before this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
