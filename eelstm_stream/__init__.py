"""Forecasting of in situ electron energy loss spectra, beside the instrument."""
