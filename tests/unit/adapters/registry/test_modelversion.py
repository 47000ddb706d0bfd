"""What a version file takes of the registry's facts."""

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backstay.adapters.registry.versions import (
    FACTS,
    PATTERNS,
    ModelVersionError,
    RegisteredVersion,
    unfit,
    version_digest,
)
from backstay.domain.resource import IDENTITY_FIELDS, ModelIdentity
from backstay_contract import tags
from backstay_contract.digest import artifact_digest as checked_by_the_server

ROOT = Path(__file__).parents[4]
CRD = yaml.safe_load((ROOT / "operator" / "config" / "crd" / "modeldeployments.yaml").read_text())
MODEL: dict[str, Any] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][
    "model"
]["properties"]
IDENTITY = ModelIdentity("fraud-detector", "7")


@pytest.mark.parametrize("ours", [name for name in PATTERNS if name not in {"promoted_by", "promoted_at"}])
def test_a_fact_has_the_form_that_the_crd_asks_for(ours: str) -> None:
    (rule,) = [rule["rule"] for rule in MODEL[IDENTITY_FIELDS[ours]]["x-kubernetes-validations"]]
    assert rule == f"self.matches('^{PATTERNS[ours][0]}$')"


def test_every_fact_of_an_identity_has_a_form() -> None:
    assert PATTERNS.keys() == IDENTITY_FIELDS.keys()
    assert set(FACTS) == set(IDENTITY_FIELDS) - {"name", "version", "run_id", "promoted_by", "promoted_at"}


def test_the_reference_lists_the_names_of_the_facts() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    names = {key for places in FACTS.values() for _, key in places}
    assert {name for name in names if f"`{name}`" not in reference} == set()


def test_the_training_of_the_example_writes_these_names() -> None:
    text = (ROOT / "pipelines" / "fraud_detector" / "train.py").read_text()
    (names,) = re.findall(r"from backstay_contract\.tags import (.+)", text)
    written = {getattr(tags, name) for name in names.split(", ")}
    assert written
    assert written <= {key for places in FACTS.values() for place, key in places if place == "tag"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digest", "sha256:AB"),
        ("code_commit", "main"),
        ("promoted_by", "a\nb"),
        ("version", "1 2"),
        ("name", "models:/x"),
    ],
)
def test_a_fact_that_does_not_fit_is_named(field: str, value: str) -> None:
    assert unfit(IDENTITY) == ""
    assert unfit(replace(IDENTITY, **{field: value})).startswith(f"{IDENTITY_FIELDS[field]} is ")


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["MLmodel", "a", "b/c", "b/d", "B/c", "ä/ö", "registered_model_meta", "b/registered_model_meta"]
        ),
        st.binary(max_size=20),
        min_size=1,
    )
)
def test_the_digest_is_the_one_that_the_model_server_checks(files: dict[str, bytes]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in {**files, "always": b"x"}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        assert version_digest(folder, "version 7") == checked_by_the_server(folder)


def test_links_and_nothing_have_no_digest(tmp_path: Path) -> None:
    with pytest.raises(ModelVersionError, match="version 7 has no artifacts"):
        version_digest(tmp_path, "version 7")
    (tmp_path / "MLmodel").symlink_to("/etc/hostname")
    with pytest.raises(ModelVersionError, match="MLmodel in version 7 is not a regular file"):
        version_digest(tmp_path, "version 7")


def test_pages_of_the_registry_are_linked() -> None:
    version = RegisteredVersion(ModelIdentity("a b", "7", run_id="r"), "http://mlflow:5000/", "READY", experiment="3")
    assert version.url == "http://mlflow:5000/#/models/a%20b/versions/7"
    assert version.run_url == "http://mlflow:5000/#/experiments/3/runs/r"
    assert replace(version, experiment="").run_url == ""
