"""Arrays in the metadata of a model file: float32 in memory, in JSON the base64 of their little-endian bytes."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer


def _array_from(value: Any) -> Any:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
    return value


def _finite_vector(value: Any) -> NDArray[np.float32]:
    try:
        array = np.asarray(_array_from(value), dtype=np.float32)
    except TypeError as error:  # pydantic reports ValueError only
        raise ValueError("not a vector of numbers") from error
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("not a vector of finite numbers")
    return array


Vector = Annotated[
    NDArray[np.float32],  # one-dimensional and finite
    BeforeValidator(_finite_vector),
    PlainSerializer(lambda a: base64.b64encode(np.ascontiguousarray(a, "<f4").tobytes()).decode(), return_type=str),
]
