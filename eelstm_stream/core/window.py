"""Which window a session is served on: frames, or dose. Pure.

A model knows nothing of dwell and current: it knows what follows from one step to the next. Of a model that was trained on
frames of one dose, a step is that dose. So wherever model and session know the current, the window can run on dose, and by
default it does; where either does not, it runs on frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from eelstm_stream.core.counts_by_dose import SAME
from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.core.dose_window import DoseWindow
from eelstm_stream.core.fitness import MAX_SCALE, scale_of
from eelstm_stream.core.frame_window import FrameWindow
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import SessionStart, Spectrum

Window: TypeAlias = FrameWindow | DoseWindow
WindowDomain = Literal["auto", "frame", "dose"]  # what may be asked for


def require_servable(model: ModelMetadata, wanted: WindowDomain) -> None:
    """Raise UnusableInputError for a model that no session can be served with on this window."""
    if wanted == "frame" and model.window_domain == "dose":
        raise UnusableInputError(
            f"{model.name} was made for a window on dose, and window_domain is frame: set it to auto or dose."
        )
    if (wanted == "dose" or model.window_domain == "dose") and model.dose_is_relative:
        raise UnusableInputError(
            f"{model.name} was trained at an unknown beam current, so nobody knows its reference dose, and no window can run "
            "on it: train it on recordings that say their current, or set window_domain to auto or frame."
        )


def domain_for(model: ModelMetadata, start: SessionStart, wanted: WindowDomain) -> Literal["frame", "dose"]:
    """The window of a session. Raises UnusableInputError where it must run on dose, and the current is unknown."""
    known = start.beam_current_pA is not None and not start.dose_is_relative
    must = wanted == "dose" or model.window_domain == "dose"
    if must and not known:
        why = "window_domain is dose" if wanted == "dose" else f"{model.name} was made for a window on dose"
        raise UnusableInputError(f"session {start.session} does not say its beam current, and {why}.")
    return "dose" if must or (wanted == "auto" and known and not model.dose_is_relative) else "frame"


def new_window(model: ModelMetadata, start: SessionStart, preparation: Preparation, wanted: WindowDomain) -> Window:
    """An empty window. Raises UnusableInputError as `domain_for` does."""
    if domain_for(model, start, wanted) == "frame" or start.beam_current_pA is None:
        return FrameWindow(model.window)
    frame_steps = max(frame_dose_pC(start.beam_current_pA, start.dwell_s) / model.reference_dose_pC, 1 / MAX_SCALE)
    return DoseWindow.empty(model.window, preparation.channels, preparation.compared_channels, frame_steps)


def filling(model: ModelMetadata, start: SessionStart, spectra: Sequence[Spectrum], wanted: WindowDomain) -> int:
    """How many of the newest of these spectra of a session, oldest first, fill a window, or nearly. All, where none do.

    Raises UnusableInputError as `domain_for` does.
    """
    if domain_for(model, start, wanted) == "frame":
        return model.window
    steps = 0.0
    for count, spectrum in enumerate(reversed(spectra), start=1):
        steps += 1 / scale_of(model, spectrum)
        if steps >= model.window - SAME:
            return count
    return len(spectra)


def step_s(window: Window, period_s: float) -> float:
    """Time that a step takes at the present dwell, current and pauses, s. period_s: start-to-start time of spectra."""
    return period_s / window.steps_a_period
