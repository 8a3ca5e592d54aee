"""`eelstm operator`: a person's hand on the guard. Each command says in one line what happened, and what to do next.

`blank` has the shortest way: it asks the guard for nothing that it doesn't need, and sends whatever it has heard by then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

operator = typer.Typer(
    help="Act as the operator: arm, disarm, blank, clear, approve, override; and see the guard's status.",
    no_args_is_help=True,
)

Guard = Annotated[
    str | None, typer.Option("--guard", help="Where the guard publishes.", show_default="tcp://127.0.0.1:17815")
]
Socket = Annotated[
    str | None,
    typer.Option("--operator", help="Where the guard takes commands.", show_default="tcp://127.0.0.1:17816"),
]
Instrument = Annotated[str | None, typer.Option(help="Whose guard.", show_default="microscope")]
Who = Annotated[str | None, typer.Option("--who", help="Who you are, for the journal.", show_default="your login")]
Why = Annotated[str, typer.Option("--reason", help="Why, for the journal.")]
Config = Annotated[Path | None, typer.Option(help="TOML file; this program reads its table `operator`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]


@operator.command()
def arm(
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    reason: Why = "",
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Let the controller act: the next proposal that is admitted lets the beam on."""
    return _tell("arm", (guard, operator, instrument, who, config), reason, as_json)


@operator.command()
def disarm(
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    reason: Why = "",
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Blank the beam, and grant nothing until `arm`."""
    return _tell("disarm", (guard, operator, instrument, who, config), reason, as_json)


@operator.command()
def blank(
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    reason: Why = "",
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Blank the beam at once, whatever else goes on, and keep it blanked until `clear`."""
    return _tell("blank", (guard, operator, instrument, who, config), reason, as_json)


@operator.command()
def clear(
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    reason: Why = "",
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Undo a latch, once what latched has been seen to; the guard is disarmed then."""
    return _tell("clear", (guard, operator, instrument, who, config), reason, as_json)


@operator.command()
def approve(
    proposal: Annotated[int | None, typer.Argument(help="Its number.  By default the one that waits.")] = None,
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    reason: Why = "",
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Approve the proposal that waits, under a guard with `--approve each`."""
    return _tell("approve", (guard, operator, instrument, who, config), reason, as_json, proposal_seq=proposal)


@operator.command()
def override(
    dwell: Annotated[float, typer.Option(help="Exposure per spectrum, s.")],
    current: Annotated[float, typer.Option(help="Beam current, pA.")],
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    reason: Why = "",
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Fix the rate, within the guard's limits and budget, until arm, disarm or blank."""
    return _tell(
        "override",
        (guard, operator, instrument, who, config),
        reason,
        as_json,
        dwell_s=dwell,
        beam_current_pA=current,
    )


@operator.command()
def status(
    guard: Guard = None,
    operator: Socket = None,
    instrument: Instrument = None,
    who: Who = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Say what the guard does, and what its ledger holds.  Takes the options of the others, so that one line serves them all."""
    from controller.operating import OperatorSettings, show_status  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415

    settings = load_settings(OperatorSettings, config, guard=guard, operator=operator, instrument=instrument, who=who)
    return show_status(settings, as_json=as_json)


def _tell(action: str, where: tuple[Any, ...], reason: str, as_json: bool, **fields: Any) -> int:
    from controller.operating import OperatorSettings, tell  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415

    guard, command, instrument, who, config = where
    settings = load_settings(OperatorSettings, config, guard=guard, operator=command, instrument=instrument, who=who)
    return tell(settings, action, reason, as_json=as_json, **fields)
