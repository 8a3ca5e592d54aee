"""Hand a file to rosettasciio's reader for its extension, and survive whatever comes of it.

A recording is somebody else's file: absent, cut short, of another kind, or made to hurt. A reader may raise anything,
print, warn, or never come back, so it is called here only, and what leaves here is its signals or one sentence.

No file is ever unpickled: rosettasciio's readers for .npy, .prz and .mrcz leave pickle off by default (checked in 0.15
with mrcz 0.6), HDF5 has none, and the codec that would let a Zarr store (.zspy) carry pickles is taken away first.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError

Signal = dict[str, Any]
"""One signal as rosettasciio gives it: `data`, `axes`, `metadata`, `original_metadata`, perhaps `mapping`."""

READ_LIMIT_S = 60.0  # a crafted length field can keep a reader busy for years; an honest 300 kB file takes 0.1 s
SLOWEST_DISK_B_PER_S = 2e6  # a network share on a bad day: large files get this much more time
HOLLOW_FACTOR = 1000  # deflate packs at most about 1030 to 1, so a file that claims more holds nothing
HOLLOW_FLOOR_B = 2**28  # below this a claim does no harm, whatever the size of the file
FOLDER_EXTENSIONS = frozenset({".zspy"})  # "files" that are folders


def read_signals(path: Path) -> tuple[str, list[Signal]]:
    """Every signal in a file, read into memory, with the name of the rosettasciio plug-in that read it.

    Raises UnusableInputError when the file is missing, empty, cut short, damaged, of a kind that nothing reads, or not read
    after `READ_LIMIT_S` and what a slow disk needs; UsageError when the library that reads it isn't installed.
    """
    size_B = _size_on_disk(path)
    plugins = _plugins_for(path)
    _refuse_cut_digitalmicrograph(path, size_B)
    limit_s = READ_LIMIT_S + size_B / SLOWEST_DISK_B_PER_S
    reason = "no reader tried"
    missing: ImportError | None = None
    for plugin in plugins:
        try:
            with _quiet():
                signals = _finish_within(limit_s, partial(_read, plugin["api"], path, size_B))
        except EelstmError:
            raise
        except _NotFinishedError:
            raise UnusableInputError(
                f"{path.name}: its reader ({plugin['name']}) was not done after {limit_s:.0f} s, so the file is damaged or "
                "far too large: export it again, or cut it into parts."
            ) from None
        except ImportError as error:
            missing = error
        except Exception as error:  # noqa: BLE001  readers raise all sorts on a damaged file, down to AttributeError
            reason = _one_line(error)
        else:
            return plugin["name"], signals
    names = " or ".join(plugin["name"] for plugin in plugins)
    if missing is not None and len(plugins) == 1:
        raise UsageError(
            f"{path.name} can't be read because a library is not installed ({missing}): "
            "pip install 'rosettasciio[all]' brings it, or save the recording as .hspy where it is installed."
        ) from None
    if missing is not None:
        reason += f"; {missing}"
    raise UnusableInputError(
        f"{path.name} can't be read as {names}: it is damaged, cut short or of another kind than its name says ({reason})."
    )


def load_plugin(name: str) -> Any:
    """The module of a rosettasciio plug-in by name, as `"HSPY"`. Raises UsageError when it can't be imported."""
    try:
        return importlib.import_module(next(plugin["api"] for plugin in _registry() if plugin["name"] == name))
    except ImportError as error:
        raise UsageError(f"{name} files need a library that is not installed ({error}): {_INSTALL}") from None


_INSTALL = "install eelstm-stream[io]."


def _registry() -> list[dict[str, Any]]:
    try:
        plugins: list[dict[str, Any]] = importlib.import_module("rsciio").IO_PLUGINS
    except ImportError:
        raise UsageError(
            f"Recordings are read and written with rosettasciio, which is not installed: {_INSTALL}"
        ) from None
    return plugins


def _read(api: str, path: Path, size_B: int) -> list[Signal]:
    reader = importlib.import_module(api).file_reader
    _forbid_pickle()
    _refuse_hollow_hdf5(path, size_B)
    # An .hspy file may hold fitted models beside its signals; they have no data.
    return [signal for signal in reader(str(path)) if isinstance(signal, dict) and "data" in signal]


def _size_on_disk(path: Path) -> int:
    """Bytes in the file, or in the folder that stands for one. Raises UnusableInputError for anything else."""
    try:
        if path.is_dir():
            if path.suffix.lower() not in FOLDER_EXTENSIONS:
                raise UnusableInputError(f"{path} is a folder, and a recording is one file: name the file in it.")
            return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
        if not path.exists():
            raise UnusableInputError(f"{path} does not exist: check the name and the folder.")
        if not path.is_file():
            raise UnusableInputError(f"{path} is a pipe or a device, and a recording is a file: copy it to disk first.")
        with path.open("rb"):
            size_B = path.stat().st_size
    except OSError as error:
        raise UnusableInputError(f"{path} can't be opened: {error.strerror or error}.") from None
    if size_B == 0:
        raise UnusableInputError(f"{path.name} is empty (0 bytes): copy or export it again.")
    return size_B


def _plugins_for(path: Path) -> list[dict[str, Any]]:
    """The plug-ins that claim the file's extension, by name. Raises UnusableInputError when there is none."""
    registry = _registry()
    extension = path.suffix.lower().lstrip(".")
    # By name because rosettasciio lists them in the order of the file system.
    claimed = sorted(
        (plugin for plugin in registry if extension in {known.lower() for known in plugin["file_extensions"]}),
        key=lambda plugin: str(plugin["name"]),
    )
    if not claimed:
        known = sorted({known.lower() for plugin in registry for known in plugin["file_extensions"]})
        found = f"the extension .{extension}" if extension else "no extension"
        raise UnusableInputError(
            f"{path.name} has {found}, and the kind of a recording is told by it; these are read: {', '.join(known)}."
        )
    return claimed


def _refuse_cut_digitalmicrograph(path: Path, size_B: int) -> None:
    """Say so when a DM3 or DM4 file is shorter than its own header promises: the usual end of a broken copy."""
    if path.suffix.lower() not in {".dm3", ".dm4"}:
        return
    with path.open("rb") as file:
        head = file.read(12)
    version = int.from_bytes(head[:4], "big")
    length = {3: head[4:8], 4: head[4:12]}.get(version)
    if length is None:
        return
    # GMS counts from byte 20 or 24 and Nion Swift from 4 bytes earlier; the last 8 bytes are zeros in both.
    promised_B = int.from_bytes(length, "big") + 16
    if size_B < promised_B:
        raise UnusableInputError(
            f"{path.name} is cut short: its header promises at least {promised_B} bytes, and {size_B} are there: copy it again."
        )


def _refuse_hollow_hdf5(path: Path, size_B: int) -> None:
    """Refuse an HDF5 file whose arrays would unpack to far more than the file can hold, before memory is asked for it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            return
    try:
        h5py = importlib.import_module("h5py")
        claims: list[int] = []
        with h5py.File(path, "r") as tree:
            # Group.visititems returns at the first answer that is not None; list.append answers None.
            tree.visititems(lambda _, node: claims.append(node.nbytes) if isinstance(node, h5py.Dataset) else None)
    except Exception:  # noqa: BLE001  the reader meets the same damage in a moment and says it better
        return
    if max(claims, default=0) > max(HOLLOW_FLOOR_B, HOLLOW_FACTOR * size_B):
        raise UnusableInputError(
            f"{path.name} claims an array of {max(claims) / 2**30:.1f} GiB, and the file has {size_B} bytes: it holds no "
            "such counts; export it again."
        )


def _forbid_pickle() -> None:
    """Take the pickle codec out of numcodecs where Zarr has loaded it: a .zspy store names its own codecs."""
    registry = sys.modules.get("numcodecs.registry")
    if registry is not None:
        registry.codec_registry.pop("pickle", None)


class _NotFinishedError(Exception):
    """A reader's time is over."""


def _finish_within(limit_s: float, read: Callable[[], list[Signal]]) -> list[Signal]:
    """What `read` returns or raises; _NotFinishedError after limit_s seconds.

    A thread, since a signal works in the main thread only and a process costs a second of imports. One that hangs is left
    behind: it is a daemon, so it ends with the program, which has nothing to go on with anyhow.
    """
    outcome: list[list[Signal]] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(read())
        except BaseException as error:  # noqa: BLE001  carried over to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=work, name="recording reader", daemon=True)
    thread.start()
    thread.join(limit_s)
    if failure:
        raise failure[0]
    if not outcome:
        raise _NotFinishedError
    return outcome[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings and logs of the readers off the terminal: rosettasciio logs to stdout, where `--json` speaks."""
    logger = logging.getLogger("rsciio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
