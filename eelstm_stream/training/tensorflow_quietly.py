"""TensorFlow imported when it is needed, and without its chatter: its first lines on stderr are not for our users."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eelstm_stream.errors import UsageError


@contextmanager
def stderr_of_libraries_hushed() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: what C++ writes there, Python's sys.stderr cannot catch. Exceptions pass."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # started without a stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def keras_and_tensorflow() -> tuple[Any, Any]:
    """The modules `keras` and `tensorflow`. Raises UsageError where the extra `train` is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the export goes through a tf.function
    try:
        if "tensorflow" in sys.modules:
            tf = importlib.import_module("tensorflow")
        else:
            with stderr_of_libraries_hushed():
                tf = importlib.import_module("tensorflow")
        return importlib.import_module("keras"), tf
    except ModuleNotFoundError as error:
        raise UsageError(f"training needs {error.name}: install eelstm-stream[train].") from None
