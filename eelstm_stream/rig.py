"""Simulator, forecaster and a listener, as processes on loopback: what the demo shows and the benchmarks measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from eelstm_stream.core.tally import Tally
from eelstm_stream.errors import EelstmError, UnusableInputError
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.listener import Listener
from eelstm_stream.io.sockets import DEFAULT_INSTRUMENT
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import Decoded

ANY_PORT = "tcp://127.0.0.1:*"
ANYWHERE: Mapping[str, str] = {"publish": ANY_PORT, "snapshot": ANY_PORT, "forecasts": ANY_PORT}
HEARTBEAT_WITHIN_S = 10.0
FINISH_WITHIN_S = 30.0  # from the simulator's end to the forecaster's word that it saw the last session end
READERS = 2  # the forecaster, and this listener


class Rig:
    """The pipeline on one machine, started in the order in which nothing is missed.

    The simulator binds and waits for its readers; the forecaster subscribes; the listener hears the forecaster's heartbeat,
    which proves its subscription, and only then subscribes to the simulator, which starts.
    """

    def __init__(
        self,
        source: Sequence[str],
        *,
        stop: Stop,
        kinds: Iterable[str],
        model: Path | None = None,
        places: Mapping[str, str] = ANYWHERE,
        from_instrument: Iterable[str] = ("session", "spectrum"),
    ) -> None:
        """source: arguments of `eelstm sim`. kinds: what to hear from the forecaster beside its status.

        places: where the simulator's `publish` and `snapshot` and the forecaster's `forecasts` are bound.

        Raises EelstmError, with the exit code of the process at fault, where one does not start; KeyboardInterrupt where
        it is told to stop before anything runs.
        """
        self.tally = Tally(clock.clock_id())
        self._stop = stop
        self._simulator_ended_ns: int | None = None
        self._stack = ExitStack()
        try:
            self.simulator = self._start(
                *("sim", *source, "--publish", places["publish"], "--snapshot", places["snapshot"]),
                *("--wait-readers", str(READERS)),
            )
            instrument = self.simulator.wait_until_ready(stop)
            self.forecaster = self._start(
                *("serve", "--publish", places["forecasts"]),
                *("--spectra", instrument["publish"], "--snapshot", instrument["snapshot"]),
                *(("--model", str(model)) if model is not None else ()),
            )
            forecasts = self.forecaster.wait_until_ready(stop)
            self._listener = Listener(DEFAULT_INSTRUMENT, stop)
            self._stack.callback(self._listener.close)
            self._listener.subscribe(forecasts["publish"], (*kinds, "status"))
            self._wait_for_heartbeat()
            self._listener.subscribe(instrument["publish"], tuple(from_instrument))
        except BaseException:
            self._stack.close()
            raise

    def _start(self, *arguments: str) -> Child:
        return self._stack.enter_context(Child(*arguments))

    def _wait_for_heartbeat(self) -> None:
        began_ns = clock.monotonic_ns()
        while self.tally.status is None and not self._stop.requested:
            for _ in self.hear(100):
                pass
            if clock.monotonic_ns() - began_ns > HEARTBEAT_WITHIN_S * 1e9:
                raise EelstmError("the forecaster said that it is ready, and no status of it was heard.")

    def hear(self, timeout_ms: int, *, regardless: bool = False) -> Iterator[Decoded]:
        """What has come, counted into `tally`; waits for the first up to `timeout_ms`. regardless: of an end that was asked for."""
        for decoded, recv_mono_ns in self._listener.hear(timeout_ms, regardless=regardless):
            self.tally.take(decoded.message, recv_mono_ns)
            yield decoded

    def subscribe(self, endpoint: str, kinds: Iterable[str]) -> None:
        """Hear these kinds from somebody else too."""
        self._listener.subscribe(endpoint, tuple(kinds))

    @property
    def malformed(self) -> int:
        """Messages that could not be decoded."""
        return self._listener.malformed

    @property
    def is_over(self) -> bool:
        """The simulator has ended, and no forecast will follow: the forecaster has said that it saw the last session end.

        Or, where it lost even that in a flood, that it has heard nothing for a while since.
        """
        end, status = self.tally.end, self.tally.status
        if self.simulator.is_running or status is None:
            return False
        self._simulator_ended_ns = self._simulator_ended_ns or clock.monotonic_ns()
        if status.state == "silent":
            return status.sent_mono_ns > self._simulator_ended_ns
        return end is not None and status.state == "waiting" and status.session == end.session

    def check(self) -> None:
        """Raise where no forecast can come any more, saying why."""
        tally = self.tally
        if not self.forecaster.is_running:
            raise EelstmError(f"the forecaster has ended: {self.forecaster.last_words()}")
        if not self.simulator.is_running:
            if self.simulator.process.returncode != 0:
                raise EelstmError(f"the simulator has ended: {self.simulator.last_words()}")
            self._simulator_ended_ns = self._simulator_ended_ns or clock.monotonic_ns()
            if clock.monotonic_ns() - self._simulator_ended_ns > FINISH_WITHIN_S * 1e9:
                raise EelstmError("the simulator has ended, and the forecaster never saw the last session end.")
        if tally.status is not None and tally.status.state == "refused":
            raise UnusableInputError(tally.status.text)
        start, window = tally.start, tally.window
        if start is None or window is None or start.expected_spectra is None or start.expected_spectra >= window:
            return
        spectra = "spectrum" if start.expected_spectra == 1 else "spectra"
        raise UnusableInputError(
            f"{start.source_name} holds {start.expected_spectra} {spectra}, and the model's window needs {window}: "
            f"give a recording of more than {window} consecutive spectra."
        )

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
