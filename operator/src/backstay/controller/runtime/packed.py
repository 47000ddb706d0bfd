"""Objects at rest, small: most models do nothing most of the time, and a parsed object takes ten times its text.

The first object of each kind is the dictionary that all later ones are compressed by: they differ in names and numbers,
and take a quarter of what each takes alone.
"""

import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from backstay.adapters.kubernetes.client import Kind, Object

# Those that are worked on now are looked at many times in a second.
_UNPACKED = 256
_FAST = 1

# By kind, for as long as the process lives.
_samples: dict[Kind, bytes] = {}


def pack(kind: Kind, body: Mapping[str, Any]) -> bytes:
    """Make an object small."""
    text = json.dumps(body, separators=(",", ":")).encode()
    packer = zlib.compressobj(_FAST, zdict=_samples.setdefault(kind, text))
    return packer.compress(text) + packer.flush()


@lru_cache(maxsize=_UNPACKED)
def unpack(kind: Kind, packed: bytes) -> Object:
    """Return the object; it is shared by all who ask for it, and must not be changed."""
    found: Object = json.loads(zlib.decompressobj(zdict=_samples[kind]).decompress(packed))
    return found
