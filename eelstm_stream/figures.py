"""Pictures of forecasts that have come true, with matplotlib."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eelstm_stream.core.counts_by_dose import SAME
from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.pipeline import Accepted, new_pipeline, step
from eelstm_stream.core.window import Window
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.wire.codec import Decoded
from eelstm_stream.wire.messages import Forecast, Payload, SessionStart, Spectrum

mpl.use("agg")

KEPT = 2000  # spectra and forecasts remembered of a session: about 15 MB each
FORMATS = (".png", ".svg", ".pdf")
AT = (0.25, 0.75)  # which of a session's forecasts are drawn whole, as shares of all that came true
INSETS_eV = {"Ti L": (452.0, 472.0), "O K": (528.0, 550.0)}
COLOURS = {"truth": "0.25", "forecast": "#c03028", "persistence": "#3878b0", "mean of window": "#70a040"}


def require_picture(path: Path) -> None:
    """Raises UsageError where the name does not end as a picture's, or its folder is not there."""
    if path.suffix not in FORMATS or not path.parent.is_dir():
        raise UsageError(f"{path}: a figure needs a folder that exists and a name in {', '.join(FORMATS)}.")


@dataclass(slots=True)
class _Session:
    start: SessionStart
    spectra: dict[int, tuple[Spectrum, Payload]] = field(default_factory=dict)
    forecasts: list[tuple[Forecast, NDArray[np.float32]]] = field(default_factory=list)


class ComeTrueFigure:
    """Remembers spectra and forecasts as they come, and draws an early and a late one beside what then came."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError where the name does not end as a picture's, or its folder is not there."""
        require_picture(path)
        self._path = path
        self._sessions: list[_Session] = []  # the one that runs, and the fullest before it

    def take(self, decoded: Decoded) -> None:
        """Remember one message."""
        message, payload = decoded.message, decoded.payload
        if isinstance(message, SessionStart):
            fullest = sorted(self._sessions, key=lambda s: len(s.forecasts))[-1:]
            self._sessions = [*fullest, _Session(message)]
        for session in self._sessions:
            if session.start.session != message.session or payload is None:
                continue
            if isinstance(message, Spectrum) and len(session.spectra) < KEPT:
                session.spectra[message.seq] = (message, payload)
            elif isinstance(message, Forecast) and len(session.forecasts) < KEPT:
                session.forecasts.append((message, np.asarray(payload, dtype=np.float32)))

    def save(self, model: ModelMetadata) -> bool:
        """Draw into the file; False where no forecast has come true, and so nothing was drawn."""
        session = max(self._sessions, key=lambda s: len(s.forecasts), default=None)
        if session is None or not session.forecasts:
            return False
        truths = _Truths(session, model)
        matured = [(header, counts) for header, counts in session.forecasts if truths.of(header) is not None]
        if not matured:
            return False
        figure = Figure(figsize=(13, 8.5), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=(2.2, 1))
        upper.remove()
        grid = upper.get_subplotspec().subgridspec(2, 2, height_ratios=(2.4, 1))
        for column, share in enumerate(AT):
            header, counts = matured[min(int(share * len(matured)), len(matured) - 1)]
            spectrum_axes = figure.add_subplot(grid[0, column])
            residual_axes = figure.add_subplot(grid[1, column], sharex=spectrum_axes)
            _draw_one(spectrum_axes, residual_axes, header, counts[-1], truths)
        _draw_errors(lower, matured)
        figure.suptitle(_title(session.start, matured[0][0]), fontsize=11)
        try:
            figure.savefig(self._path, dpi=120)
        except OSError as error:
            raise EelstmError(f"{self._path} can't be written: {error.strerror}.") from None
        return True


class _Truths:
    """A session as the model sees it: what came of the steps that its forecasts aimed at."""

    def __init__(self, session: _Session, model: ModelMetadata) -> None:
        state, _ = step(new_pipeline(model, session.forecasts[0][0].window_domain), session.start, None, 0)
        self._pasts: dict[int, Window] = {}  # after each spectrum, by its number
        for _, (spectrum, counts) in sorted(session.spectra.items()):
            state, events = step(state, spectrum, counts, 0)
            self._pasts |= {event.spectrum.seq: event.past for event in events if isinstance(event, Accepted)}
        self._positions = [past.position for past in self._pasts.values()]

    def of(self, header: Forecast) -> NDArray[np.float32] | None:
        """Counts `(channel,)` of the furthest step that it aimed at; None where it has not come, or was not measured."""
        made = self._pasts.get(header.from_seq)
        if made is None:
            return None
        target = made.position + header.horizons[-1]
        reached = bisect_left(self._positions, target - SAME)
        return None if reached == len(self._positions) else list(self._pasts.values())[reached].ending_at([target])[0]

    def when_made(self, header: Forecast) -> NDArray[np.float32]:
        """Counts `(channel,)` of the newest step when a forecast was made."""
        return self._pasts[header.from_seq].newest(None)[0]


def _draw_one(above: Axes, below: Axes, header: Forecast, forecast: NDArray[np.float32], truths: _Truths) -> None:
    """One forecast, what came, and what persistence would have said; and below it how far off the two are."""
    energies = energies_eV(header.energy_axis)
    truth, persistence = truths.of(header), truths.when_made(header)
    if truth is None:
        raise ValueError(f"forecast {header.seq} has not come true")
    horizon = header.horizons[-1]
    if header.window_domain == "frame":
        name = f"spectrum {header.from_seq + horizon}"
    else:
        name = f"the reference dose that ended {horizon} after spectrum {header.from_seq}"
    above.plot(energies, truth, color=COLOURS["truth"], lw=0.6, label=f"{name}, as it came")
    above.plot(energies, forecast, color=COLOURS["forecast"], lw=1.0, label=f"forecast {horizon} steps before")
    above.set_ylabel("counts at the reference dose")
    low, high = float(truth.min()), float(truth.max())
    above.set_ylim(low - 0.05 * (high - low), low + 1.8 * (high - low))  # room for the insets above the spectrum
    above.legend(loc="lower left", fontsize=8)
    above.tick_params(labelbottom=False)
    for number, (label, (low_eV, high_eV)) in enumerate(INSETS_eV.items()):
        channels = channel_range(header.energy_axis, low_eV, high_eV)
        if channels.stop - channels.start < 10:
            continue
        inset = above.inset_axes((0.36 + 0.33 * number, 0.58, 0.28, 0.34))
        inset.plot(energies[channels], truth[channels], color=COLOURS["truth"], lw=0.6)
        inset.plot(energies[channels], forecast[channels], color=COLOURS["forecast"], lw=1.0)
        inset.set_title(label, fontsize=8, pad=2)
        inset.tick_params(labelsize=6)
    for name, guess in (("persistence", persistence), ("forecast", forecast)):
        rmse = float(np.sqrt(np.mean((guess - truth) ** 2)))
        below.plot(energies, guess - truth, color=COLOURS[name], lw=0.4, alpha=0.8, label=f"{name}: RMSE {rmse:.0f}")
    below.axhline(0, color="0.5", lw=0.5)
    below.set_xlabel("energy loss (eV)")
    below.set_ylabel("minus truth")
    below.legend(loc="upper right", fontsize=8, ncols=2)


def _draw_errors(axes: Axes, matured: list[tuple[Forecast, NDArray[np.float32]]]) -> None:
    """RMSE of every forecast by its longest horizon, as it came true, beside the baselines and the noise floor."""
    longest = matured[0][0].horizons[-1]
    rows = [(h.from_seq, outcome) for h, _ in matured for outcome in h.came_true if outcome.horizon == longest]
    if rows:
        seqs = [seq for seq, _ in rows]
        for label, errors in (
            ("persistence", [o.rmse_persistence for _, o in rows]),
            ("mean of window", [o.rmse_window_mean for _, o in rows]),
            ("forecast", [o.rmse for _, o in rows]),
        ):
            axes.plot(seqs, errors, color=COLOURS[label], lw=1, label=label)
    skill = matured[-1][0].skill
    if skill is not None and skill.noise_floor is not None:
        axes.axhline(skill.noise_floor, color="0.4", ls="--", lw=1, label="noise floor of one spectrum")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("spectrum")
    axes.set_ylabel(f"RMSE at {longest} steps (counts)")
    axes.legend(fontsize=8, ncols=4, loc="lower left")


def _title(start: SessionStart, header: Forecast) -> str:
    kind = "SIMULATED data" if start.source == "simulation" else "recording"
    flags = ", ".join(q.flag.replace("_", " ") for q in header.quality)
    return f"{start.source_name} ({kind}); model {header.model_name}{'; ' + flags if flags else ''}"
