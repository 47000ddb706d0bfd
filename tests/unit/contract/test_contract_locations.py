"""What the location of a version is, for the controller and for the model server."""

import pytest

from backstay_contract.locations import PROXY, Allowed, Forbidden, Proxied, locate, proxied

SERVER = "http://mlflow:5000/ml"


@pytest.mark.parametrize(
    ("location", "tracking_uri"),
    [
        ("mlflow-artifacts:/1/model", SERVER),
        ("mlflow-artifacts:///1/model/", SERVER),
        ("mlflow-artifacts://MLFLOW:5000/1/model", f"{SERVER}/"),
        (f"http://mlflow:5000/ml{PROXY}/1/model", SERVER),
        (f"http://mlflow:5000/ml/{PROXY}/1/model", SERVER),
        (f"http://mlflow:80{PROXY}/1/model", "http://me:pw@mlflow/"),
        (f"https://mlflow{PROXY}/1/model", "https://mlflow:443"),
    ],
)
def test_the_tracking_server_is_known_however_it_is_written(location: str, tracking_uri: str) -> None:
    found = locate(location, tracking_uri=tracking_uri, allowed=())
    assert isinstance(found, Proxied)
    assert found.path == "1/model"


@pytest.mark.parametrize(
    "location",
    [
        f"http://mlflow:5000{PROXY}/1/model",  # another path
        f"http://mlflow{PROXY}/1/model",  # another port
        "mlflow-artifacts://mlflow:0/1/model",
        "mlflow-artifacts://mlflow:none/1/model",
        f"http://me@mlflow:5000/ml{PROXY}/1/model",
        f"http://mlflow:5000/ml{PROXY}/1/model?x=1",
        "mlflow-artifacts:/1/%252e%252e/model",
        "http://[::1/model",
        "//[::1",
        "/srv/models/1",
        "",
    ],
)
def test_any_other_place_is_forbidden(location: str) -> None:
    assert locate(location, tracking_uri=SERVER, allowed=("s3://models",)) == Forbidden()


def test_a_place_that_is_named_is_allowed_by_whole_segments_of_its_path() -> None:
    for location, expected in (("s3://models/1", Allowed()), ("s3://models", Allowed()), ("s3://models2", Forbidden())):
        assert locate(location, tracking_uri=SERVER, allowed=("s3://models",)) == expected


def test_files_of_this_machine_are_allowed_where_no_server_is_asked() -> None:
    assert locate("/srv/mlruns/1", tracking_uri="sqlite:///mlflow.db", allowed=()) == Allowed()
    assert locate("file:///srv/mlruns/1", tracking_uri="/srv/mlruns", allowed=()) == Allowed()
    assert locate("s3://models/1", tracking_uri="/srv/mlruns", allowed=()) == Forbidden()


def test_another_server_is_told_with_the_path_in_its_store() -> None:
    assert proxied("mlflow-artifacts://other:80/1/", tracking_uri=SERVER) == Proxied("http://other:80/ml", "1")
    assert proxied(f"https://other/a{PROXY}/1", tracking_uri=SERVER) == Proxied("https://other/a", "1")
    assert proxied("https://other/1", tracking_uri=SERVER) is None
    assert proxied("s3://models/1", tracking_uri=SERVER) is None
