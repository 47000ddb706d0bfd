from pathlib import Path

import pytest

from backstay_serving.settings import (
    AnyDigest,
    Digest,
    Elsewhere,
    Folder,
    Identity,
    ModelsOwnDecision,
    Registered,
    StartError,
    Threshold,
    identify,
    parse_buckets,
    parse_digest,
    parse_source,
    parse_threshold,
)


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("models:/fraud-detector/7", Registered("fraud-detector", "7")),
        ("models:/team fraud/12", Registered("team fraud", "12")),
        ("models:/fraud-detector@champion", Elsewhere("models:/fraud-detector@champion")),
        ("models:/fraud-detector/latest", Elsewhere("models:/fraud-detector/latest")),
        ("runs:/0123/model", Elsewhere("runs:/0123/model")),
        ("s3://bucket/model", Elsewhere("s3://bucket/model")),
        ("file:///models/fraud", Folder(Path("/models/fraud"))),
        ("/models/fraud", Folder(Path("/models/fraud"))),
        ("models/fraud", Folder(Path("models/fraud"))),
    ],
)
def test_a_uri_says_where_the_model_is(uri: str, source: object) -> None:
    assert parse_source(uri) == source


def test_a_registered_version_names_itself() -> None:
    source = Registered("fraud-detector", "7")
    assert identify(source, name="", version="", revision="r") == Identity("fraud-detector", "7", "r")
    assert identify(source, name="fraud-detector", version="7", revision="") == Identity("fraud-detector", "7", "")


@pytest.mark.parametrize(
    ("name", "version", "sentence"),
    [
        ("other", "", "MODEL_NAME is 'other' but MODEL_URI is models:/fraud-detector/7"),
        ("", "8", "MODEL_VERSION is '8' but MODEL_URI is models:/fraud-detector/7"),
    ],
)
def test_contradictions_are_refused(name: str, version: str, sentence: str) -> None:
    with pytest.raises(StartError, match=sentence):
        identify(Registered("fraud-detector", "7"), name=name, version=version, revision="")


@pytest.mark.parametrize("source", [Folder(Path("x")), Elsewhere("s3://x")])
def test_what_does_not_name_itself_has_to_be_named(source: Folder | Elsewhere) -> None:
    assert identify(source, name="a", version="1", revision="") == Identity("a", "1", "")
    with pytest.raises(StartError, match="Set MODEL_NAME and MODEL_VERSION"):
        identify(source, name="a", version="", revision="")


def test_a_digest_is_whole_or_absent() -> None:
    assert parse_digest("") == AnyDigest()
    assert parse_digest("sha256:" + "a" * 64) == Digest("sha256:" + "a" * 64)
    for wrong in ("sha256:" + "a" * 63, "sha256:" + "A" * 64, "a" * 64, "md5:" + "a" * 32):
        with pytest.raises(StartError, match="a digest is `sha256:` and 64"):
            parse_digest(wrong)


def test_a_threshold_is_a_share_or_absent() -> None:
    assert parse_threshold("") == ModelsOwnDecision()
    assert parse_threshold("0.25") == Threshold(0.25)
    for wrong in ("half", "1.1", "-0.1", "nan", "inf"):
        with pytest.raises(StartError, match="a threshold is a number from 0 to 1"):
            parse_threshold(wrong)


def test_bucket_edges_increase() -> None:
    assert parse_buckets("0,10, 1e3") == (0.0, 10.0, 1000.0)
    assert parse_buckets("") == ()
    for wrong in ("1,x", "1,1", "2,1"):
        with pytest.raises(StartError, match="PREDICTION_BUCKETS"):
            parse_buckets(wrong)
