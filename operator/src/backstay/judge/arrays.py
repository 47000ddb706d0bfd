"""What the kernels share: the array type, and sums and means in the log domain."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Like: TypeAlias = float | Floats


def logsumexp(values: Floats, *, axis: int = -1) -> Floats:
    """Return log(sum(exp(values))) along an axis; minus infinity where every value is."""
    top = values.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(values - shift).sum(axis=axis, keepdims=True)) + shift
    return np.asarray(total.squeeze(axis=axis))


def logmeanexp(values: Floats, *, axis: int = -1) -> Floats:
    """Return the logarithm of the equally weighted mean of exp(values) along an axis."""
    return np.asarray(logsumexp(values, axis=axis) - np.log(values.shape[axis]))


def broadcast(*values: Like) -> list[Floats]:
    """Bring numbers and arrays to one shape of contiguous float64.

    Contiguous, because numpy's vector code may round differently from its code for strided arrays.
    """
    whole = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
    return [np.array(value, order="C") for value in whole]
