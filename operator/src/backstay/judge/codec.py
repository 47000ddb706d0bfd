"""How a process's numbers are stored: a layout of fields, and their bytes as text.

A process is one row of numbers, so that many of them stack into one array. Status has little room, so each field has
the precision it needs: log evidence is kept to 2^-26, an error of less than 1e-8 an interval, and sums that are only
reported, or only steer weights, to single precision. Numbers are rounded when they are computed (``settle``), not when
they are stored: what is stored and read again is the same to the bit.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from backstay.judge.arrays import Floats

_SCALE = 2.0**26
_BYTES = 5
# Below e^-8192 nothing matters; minus infinity has a code of its own.
_LARGEST = 2.0 ** (8 * _BYTES - 1) - 2.0
_NEVER = -(2 ** (8 * _BYTES - 1))


class Precision(Enum):
    """How exactly a field is kept."""

    LOG = "log"
    SINGLE = "single"
    DOUBLE = "double"


@dataclass(frozen=True, slots=True)
class Field:
    """A run of numbers of one meaning."""

    name: str
    length: int
    precision: Precision


class Layout:
    """Where in a row which field is."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.slices: dict[str, slice] = {}
        end = 0
        for field in self.fields:
            self.slices[field.name] = slice(end, end + field.length)
            end += field.length
        self.width = end
        # Neighbours of one precision, as one run: rounding and storing them takes as long as storing one.
        self._runs: list[tuple[slice, Precision]] = []
        for field in self.fields:
            where = self.slices[field.name]
            if self._runs and self._runs[-1][1] is field.precision:
                where = slice(self._runs.pop()[0].start, where.stop)
            self._runs.append((where, field.precision))

    def settle(self, rows: Floats) -> Floats:
        """Round rows of shape [..., width] to what will be stored, in place."""
        for where, precision in self._runs:
            values = rows[..., where]
            match precision:
                case Precision.LOG:
                    # Adding zero makes minus zero, which is not stored, an ordinary one.
                    rounded = np.clip(np.rint(values * _SCALE), -_LARGEST, _LARGEST) / _SCALE + 0.0
                    values[...] = np.where(np.isneginf(values), values, rounded)
                case Precision.SINGLE:
                    values[...] = values.astype(np.float32)
                case Precision.DOUBLE:
                    pass
        return rows

    def encode(self, row: Floats) -> str:
        """Write one settled row as text."""
        return _base85(b"".join(_to_bytes(row[where], precision) for where, precision in self._runs))

    def decode(self, text: str) -> Floats:
        """Read what ``encode`` wrote.

        Raises:
            ValueError: when it was written with another layout.
        """
        data = base64.b85decode(text)
        sizes = [_SIZES[precision] * (where.stop - where.start) for where, precision in self._runs]
        if len(data) != sum(sizes):
            raise ValueError(f"{len(data)} bytes of evidence where {sum(sizes)} are expected")
        parts, start = [], 0
        for (_, precision), size in zip(self._runs, sizes, strict=True):
            parts.append(_of_bytes(data[start : start + size], precision))
            start += size
        return np.concatenate(parts)


_ALPHABET = np.frombuffer(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~", dtype=np.uint8
)
_POWERS = 85 ** np.arange(4, -1, -1, dtype=np.int64)


def _base85(data: bytes) -> str:
    """Write what ``base64.b85encode`` writes, a few times faster."""
    padding = -len(data) % 4
    words = np.frombuffer(data + bytes(padding), dtype=">u4").astype(np.int64)
    text: bytes = _ALPHABET[words[:, np.newaxis] // _POWERS % 85].tobytes()
    return text[: len(text) - padding].decode()


_SIZES = {Precision.LOG: _BYTES, Precision.SINGLE: 4, Precision.DOUBLE: 8}


def _to_bytes(values: Floats, precision: Precision) -> bytes:
    match precision:
        case Precision.LOG:
            finite = np.where(np.isneginf(values), _NEVER / _SCALE, values) * _SCALE
            return np.ascontiguousarray(finite.astype("<i8")).view(np.uint8).reshape(-1, 8)[:, :_BYTES].tobytes()
        case Precision.SINGLE:
            return values.astype("<f4").tobytes()
        case Precision.DOUBLE:
            return values.astype("<f8").tobytes()


def _of_bytes(data: bytes, precision: Precision) -> Floats:
    match precision:
        case Precision.LOG:
            wide = np.zeros((len(data) // _BYTES, 8), dtype=np.uint8)
            wide[:, 8 - _BYTES :] = np.frombuffer(data, dtype=np.uint8).reshape(-1, _BYTES)
            whole = wide.view("<i8")[:, 0] >> (8 * (8 - _BYTES))
            return np.where(whole == _NEVER, -np.inf, whole / _SCALE)
        case Precision.SINGLE:
            return np.frombuffer(data, dtype="<f4").astype(np.float64)
        case Precision.DOUBLE:
            return np.frombuffer(data, dtype="<f8").astype(np.float64)
