"""The program `eelstm`: subcommands that the installed packages contribute, and how every one of them fails.

Nothing heavy is imported here or in the modules that define the commands: `eelstm --help` must answer at once, so each
command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from eelstm_stream.errors import EelstmError

INTERRUPTED = 130  # what typer makes of Ctrl-C, and what a shell expects of a program that it ended
# Commands that go on until they are stopped: Ctrl-C is their end, and a good one. Of the others something is missing then.
UNTIL_STOPPED = ("adapter", "bench", "control", "demo", "guard", "listen", "serve", "sim")
COMMANDS = "eelstm.commands"  # entry-point group: each names a typer app, or a function that is a command

MOST_SPEED = 20.0  # of the demo's instrument under control: frames of 20 ms, at which each still gets its own decision

Config = Annotated[Path | None, typer.Option(help="TOML file; each program reads its own table of it.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]


def serve(
    spectra: Annotated[
        str | None, typer.Option(help="Where the instrument publishes.", show_default="tcp://127.0.0.1:17810")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(help="Where the instrument answers late joiners.", show_default="tcp://127.0.0.1:17811"),
    ] = None,
    publish: Annotated[
        str | None, typer.Option(help="Where to publish forecasts.", show_default="tcp://127.0.0.1:17812")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(help="Whose spectra to forecast.", show_default="microscope")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model file, ONNX.", show_default="the shipped one")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Hash that the model must have.", show_default="the one beside the file")
    ] = None,
    window_domain: Annotated[
        str | None,
        typer.Option(help="What a step is: frame, dose, or auto.", show_default="dose where the current is known"),
    ] = None,
    config: Config = None,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> None:
    """Forecast the spectra of an instrument as they come, and publish the forecasts."""
    from eelstm_stream.daemon import Forecaster, ServeSettings  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415
    from eelstm_stream.io.model_file import open_model  # noqa: PLC0415
    from eelstm_stream.io.stopping import Stop  # noqa: PLC0415
    from eelstm_stream.models import SHIPPED_MODEL  # noqa: PLC0415

    settings = load_settings(
        ServeSettings,
        config,
        spectra=spectra,
        snapshot=snapshot,
        publish=publish,
        instrument=instrument,
        model=model,
        sha256=sha256,
        window_domain=window_domain,
    )
    opened = open_model(Path(settings.model) if settings.model else SHIPPED_MODEL, settings.sha256)
    with Stop(with_parent=with_parent) as stop:
        Forecaster(settings, opened, as_json=as_json).run(stop)


def listen(
    kind: Annotated[
        str | None, typer.Argument(help="session, spectrum, forecast, summary, status, proposal or decision.")
    ] = None,
    connect: Annotated[
        str | None, typer.Option(help="Whom to listen to.  By default whoever publishes that kind.")
    ] = None,
    instrument: Annotated[str | None, typer.Option(help="Whose messages.", show_default="microscope")] = None,
    count: Annotated[int | None, typer.Option(help="End after this many messages.")] = None,
    timeout: Annotated[float | None, typer.Option(help="End when nothing has come for this long, s.")] = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="The header of each message as a line of JSON.")] = False,
) -> int:
    """Watch forecasts live, or any kind of message line by line."""
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415
    from eelstm_stream.listen import ListenSettings  # noqa: PLC0415
    from eelstm_stream.listen import listen as hear  # noqa: PLC0415

    settings = load_settings(
        ListenSettings, config, kind=kind, connect=connect, instrument=instrument, count=count, timeout=timeout
    )
    return hear(settings, as_json=as_json)


def demo(
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="End after this long, s; a recording that is watched begins again at its end until then."
        ),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="A recording to watch; by default a simulated specimen is controlled.")
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="With --recording: fly it in closed loop, by the dose that is commanded.")
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="What control is for: preserve or resolve.", show_default="preserve")
    ] = None,
    ceiling: Annotated[
        float | None, typer.Option(help="Phase that must not be passed, 0 to 1.", show_default="0.3 for preserve")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Dose that the guard lets the specimen receive, pC.", show_default="9000; resolve: 12000"),
    ] = None,
    accept_flagged: Annotated[
        bool,
        typer.Option("--accept-flagged", help="Control by forecasts of a specimen that the model may not know, too."),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63, help="Of the simulated specimen: each is another.", show_default="1")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Keep the guard's journal in this file.", show_default="it's removed")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Times real time, or `max` to watch.", show_default="2; 5 to watch")
    ] = None,
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, where the recording does not say it.")
    ] = None,
    current: Annotated[
        float | None, typer.Option(help="Beam current, pA, where the recording does not say it.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Model file, ONNX.", show_default="the shipped one")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw the flight, or forecasts against what came, into this file: png, svg or pdf."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Fly a simulated specimen under control: simulator, forecaster, controller and guard on this machine, live in one terminal.

    With --recording, watch forecasts of a recording instead; with --control as well, fly it.
    """
    from eelstm_stream.demo import DemoOptions, run_demo, run_flight  # noqa: PLC0415
    from eelstm_stream.errors import UsageError  # noqa: PLC0415

    if recording is not None and not control:
        flags = {
            "--preset": preset, "--ceiling": ceiling, "--budget": budget, "--seed": seed, "--journal": journal,
            "--accept-flagged": accept_flagged or None,
        }  # fmt: skip
        given = next((flag for flag, value in flags.items() if value is not None), None)
        if given is not None:
            raise UsageError(f"{given} is for control, and a recording is only watched: give --control to fly it.")
        watched = DemoOptions(recording, seconds, speed or "5", dwell_s=dwell, current_pA=current, model=model)
        return run_demo(watched, as_json=as_json, figure=figure)
    from eelstm_stream.flight_demo import FlightOptions  # noqa: PLC0415

    options = FlightOptions(
        preset=preset or "preserve",
        ceiling=ceiling,
        budget_pC=budget,
        accept_flagged=accept_flagged,
        seed=1 if seed is None else seed,
        recording=recording,
        dwell_s=dwell,
        current_pA=current,
        speed=_pace(speed),
        seconds=seconds,
        model=model,
        journal=journal,
    )
    return run_flight(options, as_json=as_json, figure=figure)


def _pace(speed: str | None) -> float:
    """Of a flight: leases run in its time, so it needs one."""
    from eelstm_stream.errors import UsageError  # noqa: PLC0415

    try:
        pace = float(speed or "2")
    except ValueError:
        pace = 0.0
    if not 0.1 <= pace <= MOST_SPEED:
        raise UsageError(
            f"--speed {speed!r}: a flight under control needs a pace, from 0.1 to {MOST_SPEED:g} times real time."
        )
    return pace


def _program() -> typer.Typer:
    program = typer.Typer(
        help="Forecasts EELS spectra while they are acquired.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry in sorted(entry_points(group=COMMANDS), key=lambda e: e.name):
        command: Any = entry.load()
        if isinstance(command, typer.Typer):
            program.add_typer(command, name=entry.name)
        else:
            program.command(entry.name)(command)
    return program


def main() -> None:
    """Run the program; an expected failure is one line on stderr and an exit code, never a traceback."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # started with it closed
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lasts as long as the program
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.exit(run([a for a in arguments if a != "--debug"], debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line. Returns the exit code: 0 done, 2 bad arguments, 3 unusable input, 1 anything else.

    130 where Ctrl-C ended a command before its product was there.
    """
    try:
        command = typer.main.get_command(_program())
        result = command.main(arguments, prog_name="eelstm", standalone_mode=False)
    except EelstmError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except SystemExit:  # what typer makes of a reader that has had enough, as in `eelstm listen | head`
        return 0
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        if _is_interrupt(error):
            return _interrupted(arguments)
        if type(error).__module__.startswith(("click", "typer")):  # its usage errors, whose base typer does not export
            sentence = getattr(error, "format_message", error.__str__)()
            return _fail(sentence, 2) if sentence else 2  # without one, its help has been printed
        if debug:
            raise
        if isinstance(error, OSError):  # the machine's: a full disk, a closed terminal
            return _fail(str(error), 1)
        return _fail(f"{type(error).__name__}: {error} (this is a mistake of the program; --debug shows where)", 1)
    if result == INTERRUPTED:
        return _interrupted(arguments)
    return result if isinstance(result, int) else 0


def _interrupted(arguments: list[str]) -> int:
    """Exit code after Ctrl-C: 0 where that is how a command ends, else the shell's, lest a script go on without its product."""
    words = [a for a in arguments if not a.startswith("-")]
    return 0 if words[:1] and words[0] in UNTIL_STOPPED and words[:2] != ["sim", "record"] else INTERRUPTED


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a library whose import it breaks off may make an ImportError of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _fail(sentence: str, exit_code: int) -> int:
    line = " ".join(sentence.splitlines())  # file names, and what is quoted from elsewhere, may hold line breaks
    sys.stderr.write(f"eelstm: {line}\n")
    return exit_code


if __name__ == "__main__":
    main()
