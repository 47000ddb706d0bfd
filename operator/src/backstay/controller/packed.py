"""Objects at rest, small: most models do nothing most of the time, and a parsed object takes ten times its text."""

import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from backstay.adapters.kubernetes import Object

# Those that are worked on now are looked at many times in a second.
_UNPACKED = 256
_FAST = 1


def pack(body: Mapping[str, Any]) -> bytes:
    """Make an object small."""
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), _FAST)


@lru_cache(maxsize=_UNPACKED)
def unpack(packed: bytes) -> Object:
    """Return the object; it is shared by all who ask for it, and must not be changed."""
    found: Object = json.loads(zlib.decompress(packed))
    return found
