"""What a controlled flight was worth, as figures and in words for a microscopist. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eelstm_stream.core.flight_log import FlightLog
from eelstm_stream.io.truth import Truth

DELTA = 0.005  # phase change of a frame that preset resolve allows, unless told otherwise
STEP_TOLERANCE = 1.0001  # a frame that was planned to be exactly at the step is within it
# What stands beside one flight of preset preserve: docs/explanation/what-control-is-worth.md.
MEASURED = (
    "One flight proves nothing. Over 300 simulated specimens whose instrument follows 8 frames late, each strategy tuned to overshoot in 5 of "
    "100, the controller used 97 % of the dose that they could take, a threshold on the measured phase 92 %, a dose fixed beforehand 76 % "
    "(`eelstm bench control --seed 1`)."
)
TRANSITION = (0.05, 0.95)  # phases between which a specimen counts as changing


@dataclass(frozen=True, slots=True)
class FlightReport:
    """Of one flight. truth: where it was a simulation that says it."""

    log: FlightLog
    preset: str
    blanked: bool
    ended: str  # why
    truth: Truth | None

    @property
    def ceiling(self) -> float | None:
        """Phase that must not be passed."""
        return None if self.log.controller is None else self.log.controller.phase_ceiling

    @property
    def dose_pC(self) -> float:
        """What the specimen received."""
        return self.log.dose_pC if self.truth is None else self.truth.dose_pC

    @property
    def overshoot(self) -> float | None:
        """How far the true phase went beyond the ceiling."""
        if self.truth is None or self.ceiling is None:
            return None
        return max(0.0, self.truth.phase - self.ceiling)

    @property
    def bearable_pC(self) -> float | None:
        """The dose at which this very specimen reaches the ceiling."""
        return None if self.truth is None or self.ceiling is None else self.truth.dose_at(self.ceiling)

    @property
    def utilisation(self) -> float | None:
        """Dose spent below the ceiling over the dose at which this specimen reaches it."""
        bearable_pC = self.bearable_pC
        return None if bearable_pC is None else min(self.dose_pC, bearable_pC) / bearable_pC

    @property
    def phase_steps(self) -> list[float]:
        """True phase change of each frame in the transition; none where the truth isn't known."""
        truth = self.truth
        if truth is None or not len(truth.phases):
            return []
        before_pC = np.array([frame.dose_before_pC for frame in self.log.frames])
        after_pC = before_pC + np.array([frame.dose_pC for frame in self.log.frames])
        before, after = (np.interp(dose_pC, truth.at_dose_pC, truth.phases) for dose_pC in (before_pC, after_pC))
        changing = (after > TRANSITION[0]) & (before < TRANSITION[1])
        return [float(step) for step in (after - before)[changing]]

    def figures(self) -> dict[str, Any]:
        """For a program."""
        ledger = None if self.log.guard is None else self.log.guard.ledger
        guard, controller, steps = self.log.guard, self.log.controller, self.phase_steps
        within = sum(step <= DELTA * STEP_TOLERANCE for step in steps) / len(steps) if steps else None
        return {
            "preset": self.preset,
            "ended": self.ended,
            "blanked": self.blanked,
            "ceiling": self.ceiling,
            "phase": None if self.truth is None else round(self.truth.phase, 5),
            "phase_estimated": round(self.log.estimates[-1][1].value, 5) if self.log.estimates else None,
            "overshoot": _rounded(self.overshoot, 5),
            "utilisation": _rounded(self.utilisation, 4),
            "frames": len(self.log.frames),
            "frames_within_step": _rounded(within, 4),
            "dose_pC": round(self.dose_pC, 2),
            "bearable_dose_pC": _rounded(self.bearable_pC, 2),
            "budget_pC": ledger and ledger.budget_pC,
            "charged_pC": ledger and round(ledger.charged_pC, 2),
            "discarded": controller and controller.discarded,
            "discarded_by": controller and controller.discarded_by,
            "accepted": guard and guard.accepted,
            "clamped": guard and guard.clamped,
            "refused": guard and guard.refused,
            "refused_by": guard and guard.refused_by,
            "to_command_p50_ms": _rounded(self.log.latency_percentile_ms(50), 3),
            "to_command_p99_ms": _rounded(self.log.latency_percentile_ms(99), 3),
        }

    def lines(self) -> list[str]:
        """For a person, the gist first."""
        compared = [MEASURED] if self.utilisation is not None and self.log.frames else []
        return [*self._gist(), *self._what_was_not_used(), *self._what_the_guard_did(), *compared]

    def _gist(self) -> list[str]:
        how = (
            "The beam was blanked" if self.blanked else "THE INSTRUMENT HAS NOT SAID THAT THE BEAM IS BLANKED; it ended"
        )
        estimate = self.log.estimates[-1][1] if self.log.estimates else None
        seen = "" if estimate is None else f"{estimate.value:.3f} (95 %: {estimate.low:.3f} to {estimate.high:.3f})"
        if not self.log.frames:
            return [f"No frame was taken: {self.ended}"]
        if self.truth is None:
            said = f"{how} at a phase of {seen}, as forecast" if seen else how
            lines = [f"{said}. What became of the specimen in truth, a recording doesn't tell."]
        elif self.ceiling is None:
            lines = [f"{how} at a true phase of {self.truth.phase:.3f}; the forecasts said {seen or 'nothing'}."]
        else:
            lines = [self._against_ceiling(how, self.truth, self.ceiling)]
            if seen:
                lines.append(f"All that the controller knew were the forecasts, and they said {seen}.")
        lines.append(f"Why it ended: {self.ended}")
        return [*lines, *self._steps()]

    def _against_ceiling(self, how: str, truth: Truth, ceiling: float) -> str:
        beyond = truth.phase - ceiling
        where = f"{beyond:.3f} ABOVE the ceiling of {ceiling:g}" if beyond > 0 else f"below the ceiling of {ceiling:g}"
        said = f"{how} at a true phase of {truth.phase:.3f}, {where}"
        if self.utilisation is None or self.bearable_pC is None:
            return f"{said}."
        if beyond > 0:
            return f"{said}: {self.dose_pC:,.0f} pC, where this specimen could take {self.bearable_pC:,.0f} pC."
        return (
            f"{said}: {100 * self.utilisation:.0f} % of the dose that this specimen could take was used, "
            f"{self.dose_pC:,.0f} of {self.bearable_pC:,.0f} pC."
        )

    def _steps(self) -> list[str]:
        steps = self.phase_steps
        if self.preset != "resolve" or not steps:
            return []
        within = sum(step <= DELTA * STEP_TOLERANCE for step in steps)
        dwells = [frame.dwell_s for frame in self.log.frames]
        return [
            f"{within} of the {len(steps)} frames in the transition changed the specimen by at most {DELTA:g}, the step wanted; "
            f"the dwell went from {min(dwells) * 1e3:.0f} to {max(dwells) * 1e3:.0f} ms."
        ]

    def _what_was_not_used(self) -> list[str]:
        """Forecasts that the controller dropped; those that newer ones overtook are no news."""
        controller = self.log.controller
        if controller is None:
            return []
        by = {reason: count for reason, count in controller.discarded_by.items() if reason != "skipped"}
        if not by:
            return []
        named = ", ".join(f"{reason} {count}" for reason, count in by.items())
        return [f"The controller did not use {sum(by.values())} of the forecasts: {named}."]

    def _what_the_guard_did(self) -> list[str]:
        guard = self.log.guard
        if guard is None or guard.ledger is None:
            return []
        by = ", ".join(f"{limit} {count}" for limit, count in guard.refused_by.items())
        lines = [
            f"The guard accepted {guard.accepted} proposals, cut down {guard.clamped} and refused {guard.refused}"
            + (f" ({by})" if by else "")
            + f"; it charged {guard.ledger.charged_pC:,.0f} of the budget of {guard.ledger.budget_pC:,.0f} pC."
        ]
        p50, p99 = self.log.latency_percentile_ms(50), self.log.latency_percentile_ms(99)
        if p50 is not None and p99 is not None:
            lines.append(f"latency from spectrum to acknowledged command: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        return lines


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
