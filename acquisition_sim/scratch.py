"""Memory that is used again from block to block.

A fresh array of a block's size comes from the kernel page by page as it is first written to, and goes back when it is freed.
That can take longer than the arithmetic that fills it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch:
    """So many arrays `(frame, width)` of one type. What is written to them holds until they are asked for again."""

    def __init__(self, arrays: int, width: int, dtype: DTypeLike = np.float32) -> None:
        self._arrays = [np.empty((0, width), dtype) for _ in range(arrays)]

    def of(self, frames: int) -> list[NDArray[Any]]:
        """Each array, of so many frames, with anything in it. They grow to the most frames that were asked for."""
        if frames > len(self._arrays[0]):
            self._arrays = [np.empty((frames, array.shape[1]), array.dtype) for array in self._arrays]
        return [array[:frames] for array in self._arrays]
