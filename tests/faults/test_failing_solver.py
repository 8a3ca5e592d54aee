"""Row 24 of section 13: a planner that fails. The plan before goes on, shifted, up to its end; then the beam is blanked."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from controller.controld import Planner, warm_up
from controller.problem import HORIZON
from eelstm_stream.wire.messages import ControllerStatus, Decision, InstrumentStatus, Proposal
from tests.faults.failing_solver import SOLVES_BEFORE
from tests.flying import Flying


def test_row_24_a_plan_that_was_made_is_flown_to_its_end_and_then_the_beam_is_blanked() -> None:
    modules = {"control": "tests.faults.failing_solver"}
    with (
        tempfile.TemporaryDirectory(prefix="fly") as folder,
        Flying(Path(folder), modules=modules) as flying,
        flying.instrument(),
    ):
        session = flying.take_off()
        fell_back = flying.until(ControllerStatus, lambda m: m.session == session and m.state == "fallback")
        assert fell_back.fallbacks > 0
        gave_up = flying.until(ControllerStatus, lambda m: m.session == session and m.state == "blanking")
        assert "no plan could be made" in gave_up.text
        assert "until an operator disarms and arms again" in gave_up.text
        assert 1 < gave_up.fallbacks <= HORIZON
        proposals = flying.of(Proposal, session)
        assert proposals[-1].blank
        planned = [m for m in proposals if m.plan_dose_pC and not m.blank]
        made, shifted = planned[: SOLVES_BEFORE - 1], planned[SOLVES_BEFORE - 1 :]
        assert shifted
        for proposal in shifted:  # no number that the last good plan did not have
            assert set(proposal.plan_dose_pC) <= set(made[-1].plan_dose_pC)
            assert len(proposal.plan_dose_pC) < len(made[-1].plan_dose_pC)
        blanked = flying.until(InstrumentStatus, lambda m: m.session == session and m.state == "blanked")
        assert "commanded" in blanked.text
        flying.mode("blank", session=session)
        assert not [m for m in flying.of(Decision, session) if m.limit == "readback"]


def test_a_plan_that_comes_too_late_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from controller import controld
    from controller.problem import Problem, ProblemError

    problems: list[Problem] = []
    monkeypatch.setattr(controld.mpc, "solve", lambda problem, previous=None: problems.append(problem))
    warm_up()  # makes a problem
    monkeypatch.undo()
    in_time, late = Planner(60.0), Planner(1e-9)
    assert in_time(problems[0], None).status == "solved"
    assert in_time.solve_ns is not None
    with pytest.raises(ProblemError, match="the solve took"):
        late(problems[0], None)
