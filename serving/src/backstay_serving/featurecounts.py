"""Counting the rows of a request into the buckets of the model's reference profile.

Importing this module imports NumPy and pandas: only the thread that loads the model does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from backstay_contract.profile import Edges
from backstay_serving.outcome import FeatureCount
from backstay_serving.settings import StartError
from backstay_serving.signature import Columns, ModelInput, Signature

_NUMBERS = ("double", "float", "long", "integer")
Block = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class FeatureCounter:
    """Counts all profiled features of a request at once; a loop over features would cost more than many models.

    Attributes:
        edges: upper edges by feature, which the signature has as numbers.
        signature: what the model takes.
    """

    edges: dict[str, Edges]
    signature: Columns
    _padded: Block = field(init=False)
    _places: list[int] = field(init=False)

    def __post_init__(self) -> None:
        widest = max(map(len, self.edges.values()))
        names = [column.name for column in self.signature.columns]
        padded = [(*edges, *[np.inf] * (widest - len(edges))) for edges in self.edges.values()]
        object.__setattr__(self, "_padded", np.array(padded))
        object.__setattr__(self, "_places", [names.index(name) for name in self.edges])

    def count(self, data: ModelInput) -> Sequence[FeatureCount]:
        """Count rows, one entry for each feature in the order of `edges`."""
        block = self._block(data)
        known = np.isfinite(block)
        # How many edges lie below a value is the bucket it falls into.
        buckets = np.zeros(block.shape, dtype=np.int64)
        for edges in self._padded.T:
            buckets += block > edges
        features, width = self._padded.shape
        flat = (buckets + np.arange(features) * (width + 1))[known]
        counts = np.bincount(flat, minlength=features * (width + 1)).reshape(features, width + 1)
        with np.errstate(over="ignore"):  # callers may send what no sum can hold; the buckets still count it
            sums = np.where(known, block, 0.0).sum(axis=0)
        nulls = (~known).sum(axis=0)
        return [
            # The padding's buckets are empty but for the last, which nothing lies beyond.
            FeatureCount(buckets=[*row[: len(edges)], sum(row[len(edges) :])], sum=total, nulls=missing)
            for edges, row, total, missing in zip(
                self.edges.values(), counts.tolist(), sums.tolist(), nulls.tolist(), strict=True
            )
        ]

    def _block(self, data: ModelInput) -> Block:
        if self.signature.all_double:
            return np.asarray(data, dtype=np.float64)[:, self._places]
        frame = pd.DataFrame(data)
        absent = np.full(len(frame), np.nan)  # an optional column that the request left out
        columns = [frame[name].to_numpy(dtype=np.float64) if name in frame else absent for name in self.edges]
        return np.column_stack(columns)


@dataclass(frozen=True)
class CountsNothing:
    """The model has no profile of its features."""

    def count(self, data: ModelInput) -> Sequence[FeatureCount]:  # noqa: ARG002  the interface
        """Count no feature."""
        return ()


def counter_for(edges: dict[str, Edges], signature: Signature) -> FeatureCounter | CountsNothing:
    """Make what counts the features of a model.

    Raises:
        StartError: the profile names a feature that the model does not take as a number.
    """
    if not edges:
        return CountsNothing()
    columns = signature.columns if isinstance(signature, Columns) else ()
    numbers = {column.name for column in columns if column.type in _NUMBERS}
    strange = [name for name in edges if name not in numbers]
    if strange or not isinstance(signature, Columns):
        raise StartError(
            f"The reference profile counts the feature {strange[0]!r}, which the model's signature does not have as a "
            "number; correct the profile and log the model again"
        )
    return FeatureCounter(edges=edges, signature=signature)
