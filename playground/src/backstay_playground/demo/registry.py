"""What the registry remembers of an environment, by MLflow's REST interface."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from backstay.adapters.registry.aliases import alias
from backstay.domain.resource import Key
from backstay_playground.demo.stage import MODEL, Target
from backstay_playground.errors import PlaygroundError
from backstay_playground.install import SETTINGS
from backstay_playground.playground import Playground

_MODELS, _VERSIONS = "/api/2.0/mlflow/registered-models", "/api/2.0/mlflow/model-versions"


def stable_version(playground: Playground, target: Target) -> str:
    """Return the version that the environment's alias names; empty when there is no alias."""
    model = _call(playground, "GET", "get", params={"name": MODEL})["registered_model"]
    aliases = {entry["alias"]: entry["version"] for entry in model.get("aliases", ())}
    return str(aliases.get(_alias(target), ""))


def remove_alias(playground: Playground, target: Target) -> None:
    """Make the registry forget the environment."""
    _call(playground, "DELETE", "alias", json={"name": MODEL, "alias": _alias(target)})


@contextmanager
def lost_artifacts(playground: Playground, version: str) -> Iterator[None]:
    """Take a version's files away from the registry for a while: no pod that starts meanwhile can load it."""
    source = _call(playground, "GET", "get", base=_VERSIONS, params={"name": MODEL, "version": version})
    model = str(source["model_version"]["source"]).removeprefix("models:/")
    (folder,) = (playground.layout.data("mlflow") / "artifacts").rglob(model)
    away = folder.with_name(f"{model}.away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


def _alias(target: Target) -> str:
    return alias(SETTINGS["BACKSTAY_CLUSTER_NAME"], Key(target.namespace, MODEL))


def _call(playground: Playground, method: str, what: str, *, base: str = _MODELS, **content: Any) -> dict[str, Any]:
    with httpx.Client(base_url=playground.mlflow_url, trust_env=False, timeout=30) as http:
        answer = http.request(method, f"{base}/{what}", **content)
    if answer.is_error:
        raise PlaygroundError(f"MLflow did not {method} {what}: {answer.status_code} {answer.text[:300]}")
    document: dict[str, Any] = answer.json()
    return document
