"""The reference profile: in which buckets the training data was counted, stored beside the model by its training.

`reference_profile.json`, in the artifact folder or its `extra_files`::

    {"features": {"amount": {"edges": [1, 5, 20], "counts": [10, 30, 40, 20]}},
     "prediction": {"edges": [0.1, 0.5, 0.9]}, "confidence": {"edges": [0.6, 0.9, 1.0]}}

Every part may be left out. `edges` are upper edges, as Prometheus has them; what lies beyond the last is counted apart.
`counts` are those of the training data, for people who compare live traffic with it; servers read the edges alone.
"""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from typing import Any

NAME = "reference_profile.json"
PLACES = (NAME, f"extra_files/{NAME}")
"""Where it may lie in the artifact folder; the first that is there counts."""
# Each feature costs as many series as it has edges, and four more, for every pod.
_MOST_FEATURES, _MOST_EDGES = 100, 50

Edges = tuple[float, ...]


class ProfileError(ValueError):
    """A text is no profile; the message is a sentence with the remedy."""


@dataclass(frozen=True)
class Profile:
    """The buckets that a model's training asks for; empty ones leave it to the server.

    Attributes:
        features: upper edges by feature.
        prediction: upper edges for scores or predicted values.
        confidence: upper edges for the likeliest class's probability.
    """

    features: dict[str, Edges]
    prediction: Edges = ()
    confidence: Edges = ()


def draw_up(features: Mapping[str, Sequence[float]], *, buckets: int = 10) -> str:
    """Draw up a profile from training data, for `extra_files` when the model is logged.

    Versions can be compared by a distribution only if both count in the same buckets. So draw it up from one reference
    table for all versions, and change that table rarely.

    Args:
        features: the values of each feature; those that are no finite number are left out.
        buckets: about how many buckets a feature gets, each with the same share of the values; fewer where many values
            are equal.

    Raises:
        ValueError: a feature has fewer than two different numbers.
    """
    return json.dumps({"features": {name: _counted(name, values, buckets) for name, values in features.items()}})


def _counted(name: str, values: Sequence[float], buckets: int) -> dict[str, list[float]]:
    numbers = [float(value) for value in values if math.isfinite(value)]
    if len(set(numbers)) < 2:  # noqa: PLR2004  one value cuts nothing
        raise ValueError(f"The feature {name!r} has fewer than two different numbers: leave it out of the profile")
    edges = sorted(set(quantiles(numbers, n=buckets, method="inclusive")))
    counts = Counter(bisect_left(edges, number) for number in numbers)
    return {"edges": edges, "counts": [counts[bucket] for bucket in range(len(edges) + 1)]}


def parse_profile(text: bytes) -> Profile:
    """Read a profile.

    Raises:
        ProfileError: the text is none; the sentence names the first part that is wrong.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _wrong(f"is no JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("features", {}), dict):
        raise _wrong('is no object like {"features": {"amount": {"edges": [1, 5]}}}')
    features = document.get("features", {})
    if len(features) > _MOST_FEATURES:
        raise _wrong(f"has {len(features)} features; keep the {_MOST_FEATURES} that matter most")
    return Profile(
        features={name: _edges(f"the feature {name!r}", part) for name, part in features.items()},
        prediction=_edges("prediction", document["prediction"]) if "prediction" in document else (),
        confidence=_edges("confidence", document["confidence"]) if "confidence" in document else (),
    )


def _edges(what: str, part: Any) -> Edges:
    edges = part.get("edges") if isinstance(part, dict) else None
    numbers = isinstance(edges, list) and all(
        isinstance(edge, int | float) and not isinstance(edge, bool) and math.isfinite(edge) for edge in edges
    )
    if not isinstance(edges, list) or not numbers or not 0 < len(edges) <= _MOST_EDGES:
        raise _wrong(f"needs edges for {what}, a list of 1 to {_MOST_EDGES} numbers")
    if any(high <= low for low, high in pairwise(edges)):
        raise _wrong(f"has edges for {what} that do not increase")
    return tuple(map(float, edges))


def _wrong(how: str) -> ProfileError:
    return ProfileError(f"{NAME} beside the model {how}; correct it and log the model again")
