"""Preprocessing, step by step: each usable alone, on a whole run and on one spectrum at a time, with the same result.

The service itself normalises, resamples and aligns in one go (`core.preparation`), which tests hold against these steps.
"""

from eelstm_stream.core.preprocessing.background import PowerLawBackground
from eelstm_stream.core.preprocessing.bins import ExclusiveBins, RollingBins
from eelstm_stream.core.preprocessing.chain import LAST, ORDER, Chain, Place
from eelstm_stream.core.preprocessing.crop import Crop
from eelstm_stream.core.preprocessing.dose_normalisation import DoseNormalisation, Exposed
from eelstm_stream.core.preprocessing.peak_alignment import PeakAlignment, fit_alignment
from eelstm_stream.core.preprocessing.scaling import MinMaxScaling, fit_global_scaling, fit_per_channel_scaling
from eelstm_stream.core.preprocessing.spikes import SpikeRemoval, fit_spike_removal
from eelstm_stream.core.preprocessing.step import Step, one_by_one
from eelstm_stream.core.preprocessing.table_i import TABLE_I, Row, TableISettings

__all__ = [
    "LAST",
    "ORDER",
    "TABLE_I",
    "Chain",
    "Crop",
    "DoseNormalisation",
    "ExclusiveBins",
    "Exposed",
    "MinMaxScaling",
    "PeakAlignment",
    "Place",
    "PowerLawBackground",
    "RollingBins",
    "Row",
    "SpikeRemoval",
    "Step",
    "TableISettings",
    "fit_alignment",
    "fit_global_scaling",
    "fit_per_channel_scaling",
    "fit_spike_removal",
    "one_by_one",
]
