"""Reading a model's `MLmodel` file: which flavour to load, with what, and what the model takes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from backstay_serving.settings import StartError

Serialization = Literal["skops", "cloudpickle", "pickle"]


@dataclass(frozen=True)
class SklearnFlavor:
    """A scikit-learn estimator, which loads without MLflow.

    Attributes:
        file: the serialized estimator.
        serialization: how it is written.
        trusted_types: the types that a skops file may hold beyond scikit-learn's own.
        predict_function: the method that answers requests.
        sklearn_version: the version that wrote it, empty where it is not recorded.
    """

    file: Path
    serialization: Serialization
    trusted_types: tuple[str, ...]
    predict_function: str
    sklearn_version: str


@dataclass(frozen=True)
class PythonFlavor:
    """Any other model, loaded by MLflow's `pyfunc`."""


@dataclass(frozen=True)
class ModelFile:
    """What MLmodel says.

    Attributes:
        folder: the artifact folder.
        flavor: how to load the model.
        code: folders to import the model's own code from.
        inputs: the signature's inputs as a JSON list; empty where the model has no signature.
        example: an `/invocations` body that was logged with the model; empty where there is none.
    """

    folder: Path
    flavor: SklearnFlavor | PythonFlavor
    code: tuple[Path, ...]
    inputs: str
    example: bytes


def read_mlmodel(folder: Path) -> ModelFile:
    """Read `MLmodel` in a model's artifact folder.

    Raises:
        StartError: the file is not one that MLflow wrote, or the model has no flavour that is served here.
    """
    try:
        document: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        flavors: dict[str, dict[str, Any]] = document["flavors"]
        signature: dict[str, Any] = document.get("signature") or {}
        example: dict[str, Any] = document.get("saved_input_example_info") or {}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise StartError(f"MLmodel in {folder} is not a file that MLflow wrote: log the model again") from error
    flavor: SklearnFlavor | PythonFlavor
    if "sklearn" in flavors:
        flavor = _sklearn(folder, flavors["sklearn"], flavors.get("python_function", {}))
    elif "python_function" in flavors:
        flavor = PythonFlavor()
    else:
        raise StartError(
            f"The model has the flavours {', '.join(flavors)}; sklearn and python_function are served: log it with one"
        )
    return ModelFile(
        folder=folder,
        flavor=flavor,
        code=tuple(folder / conf["code"] for conf in flavors.values() if conf.get("code")),
        inputs=signature.get("inputs") or "",
        example=_example(folder, example),
    )


def _sklearn(folder: Path, sklearn: dict[str, Any], python: dict[str, Any]) -> SklearnFlavor:
    serialization = sklearn.get("serialization_format", "pickle")
    if serialization not in ("skops", "cloudpickle", "pickle"):
        raise StartError(f"The model is serialized as {serialization!r}; log it as skops, cloudpickle or pickle")
    return SklearnFlavor(
        file=folder / sklearn.get("pickled_model", python.get("model_path", "model.pkl")),
        serialization=serialization,
        trusted_types=tuple(sklearn.get("skops_trusted_types") or ()),
        predict_function=python.get("predict_fn", "predict"),
        sklearn_version=str(sklearn.get("sklearn_version", "")),
    )


def _example(folder: Path, info: dict[str, Any]) -> bytes:
    """Return the logged example as a request; older versions of MLflow logged the example alone."""
    serving = folder / str(info.get("serving_input_path") or "serving_input_example.json")
    if serving.is_file():
        return serving.read_bytes()
    plain = folder / str(info.get("artifact_path") or "")
    if info.get("type") == "dataframe" and plain.is_file():
        return json.dumps({"dataframe_split": json.loads(plain.read_text(encoding="utf-8"))}).encode()
    return b""
