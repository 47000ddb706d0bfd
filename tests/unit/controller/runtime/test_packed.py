"""Objects at rest: what comes out is what went in, whatever the first of its kind was like."""

from hypothesis import given
from hypothesis import strategies as st

from backstay.adapters.kubernetes.client import DEPLOYMENT, SERVICE, Kind
from backstay.controller.runtime.packed import pack, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(body=st.dictionaries(st.text(), JSON), kind=st.sampled_from([DEPLOYMENT, SERVICE]))
def test_an_object_comes_back_as_it_was(body: dict[str, object], kind: Kind) -> None:
    assert unpack(kind, pack(kind, body)) == body


def test_objects_like_the_first_of_their_kind_take_little() -> None:
    kind = Kind("example.dev/v1", "Sample", "samples")
    bodies = [{"name": f"model-{number}", "labels": {f"label-{i}": str(i * i) for i in range(50)}} for number in (1, 2)]
    first, second = (pack(kind, body) for body in bodies)
    assert max(len(first), len(second)) < 100
    assert [unpack(kind, packed) for packed in (first, second)] == bodies
