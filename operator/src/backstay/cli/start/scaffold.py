"""What `backstay init` and `backstay add` write: files as text, made from the templates of this package. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import urlsplit

import yaml

from backstay.adapters.git_url import GitUrlError, parse_url
from backstay.adapters.yaml_text import plain as plainyaml

CONFIG = "backstay.yaml"
PRODUCTION = "production"

_TEMPLATES = files("backstay") / "templates"
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_HOST = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][\w./:@-]*", re.IGNORECASE)
_REGISTERED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADER = """\
# What `backstay add` writes into a new model. A change here concerns models added later; the others have files of
# their own.
"""


class ScaffoldError(Exception):
    """A repository or model cannot be made from these values; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the models of one repository have in common, as its ``backstay.yaml`` says.

    Args:
        repository: the URL by which Argo CD reads the repository.
        registry: MLflow's URL as seen from the cluster.
        gateway: ``namespace/name`` of the Gateway that the requests come through.
        domain: the domain below which models get their hostnames.
        branch: the branch that Argo CD follows.
        image: the model server.
        namespace: of a model's environment, with ``{model}`` and ``{environment}`` in it.
        environments: in the order in which a version passes them; the last one is the careful one.

    Raises:
        ScaffoldError: a value cannot be one.
    """

    repository: str
    registry: str
    gateway: str
    domain: str
    branch: str = "main"
    image: str = "backstay/serving:0.1.0"
    namespace: str = "{model}-{environment}"
    environments: tuple[str, ...] = ("staging", PRODUCTION)

    def __post_init__(self) -> None:
        try:
            parse_url(self.repository)
        except GitUrlError as error:
            raise ScaffoldError(str(error)) from None
        if urlsplit(self.registry).scheme not in ("http", "https") or not urlsplit(self.registry).hostname:
            raise ScaffoldError(f"{self.registry!r} is not a registry's URL: write it like http://mlflow.mlops:5000")
        namespace, _, name = self.gateway.partition("/")
        _require(_LABEL, namespace, f"{self.gateway!r} names no Gateway: write it as namespace/name")
        _require(_LABEL, name, f"{self.gateway!r} names no Gateway: write it as namespace/name")
        _require(_HOST, self.domain, f"{self.domain!r} is not a domain: write it like models.example.com")
        _require(_IMAGE, self.image, f"{self.image!r} is not an image: write it like registry.example.com/serving:1.0")
        if not self.environments:
            raise ScaffoldError("A model needs at least one environment: name it, for example production")
        for environment in self.environments:
            _require(_LABEL, environment, f"{environment!r} is not an environment's name: use a-z, 0-9 and -")
        self.namespace_of("model", "environment")

    def namespace_of(self, model: str, environment: str) -> str:
        """Name the namespace of a model's environment."""
        try:
            name = self.namespace.format(model=model, environment=environment)
        except (KeyError, IndexError, ValueError):
            name = ""
        _require(
            re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
            name,
            f"{self.namespace!r} makes no namespace: write it with {{model}} and {{environment}}, in a-z, 0-9 and -",
        )
        return name

    def hostname_of(self, model: str, environment: str) -> str:
        """Name the host that a model's environment answers to; the last environment has the plain one."""
        prefix = "" if environment == self.environments[-1] else f"{environment}."
        return f"{prefix}{model}.{self.domain}"

    def text(self) -> str:
        """Write ``backstay.yaml``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _HEADER + yaml.safe_dump(values | {"environments": list(self.environments)}, sort_keys=False)

    @staticmethod
    def parse(text: str) -> "Defaults":
        """Read ``backstay.yaml``.

        Raises:
            ScaffoldError: it is not one.
        """
        try:
            document = next(iter(plainyaml.values(text.encode())), None)
        except plainyaml.PlainYamlError as problem:
            raise ScaffoldError(f"{CONFIG} {problem}, or write it anew with backstay init") from None
        known = {field.name for field in fields(Defaults)}
        if not isinstance(document, Mapping) or not set(document) <= known:
            raise ScaffoldError(f"{CONFIG} holds something else than {', '.join(sorted(known))}")
        missing = {"repository", "registry", "gateway", "domain"} - set(document)
        if missing:
            raise ScaffoldError(f"{CONFIG} lacks {', '.join(sorted(missing))}")
        values: dict[str, Any] = dict(document)
        environments = values.pop("environments", ["staging", PRODUCTION])
        texts = [*values.values(), *(environments if isinstance(environments, list) else [None])]
        if not all(isinstance(text, str) for text in texts):
            raise ScaffoldError(f"{CONFIG} holds something that is no text: put it in quotes, environments in a list")
        return Defaults(**{**values, "environments": tuple(environments)})


@dataclass(frozen=True, slots=True)
class Model:
    """A model to be added: its ModelDeployment's name, its name in the registry, and the first version to serve."""

    name: str
    registered: str
    version: str

    def __post_init__(self) -> None:
        _require(_LABEL, self.name, f"{self.name!r} cannot name a model: use a-z, 0-9 and -, at most 40 characters")
        _require(_REGISTERED, self.registered, f"{self.registered!r} is not the name of a registered model")
        _require(_VERSION, self.version, f"{self.version!r} is not a version: write it as the registry does")


def model_files(defaults: Defaults, model: Model) -> dict[str, str]:
    """Return the files of a model, by path."""
    namespace, _, gateway = defaults.gateway.partition("/")
    common = {
        "model": model.name,
        "registered": model.registered,
        "version": model.version,
        "registry": defaults.registry,
        "image": defaults.image,
        "gateway": gateway,
        "gateway_namespace": namespace,
        "repository": defaults.repository,
        "branch": defaults.branch,
    }
    folder = f"applications/{model.name}"
    written = {
        f"{folder}/base/{name}": _fill(f"model/base/{name}", common)
        for name in ("kustomization.yaml", "modeldeployment.yaml")
    }
    for environment in defaults.environments:
        careful = environment == defaults.environments[-1]
        values = {
            **common,
            "environment": environment,
            "namespace": defaults.namespace_of(model.name, environment),
            "hostname": defaults.hostname_of(model.name, environment),
        }
        overlay = f"{folder}/overlays/{environment}"
        settings = "settings-production.yaml" if careful else "settings-staging.yaml"
        written[f"{overlay}/kustomization.yaml"] = _fill("model/overlay/kustomization.yaml", values)
        written[f"{overlay}/model-version.yaml"] = _fill("model/overlay/model-version.yaml", values)
        written[f"{overlay}/settings.yaml"] = _fill(f"model/{settings}", values)
        written[f"applications/argocd/{model.name}-{environment}.yaml"] = _fill("argocd/application.yaml", values)
    return written


def repository_files(defaults: Defaults) -> dict[str, str]:
    """Return the files of a repository without models, by path."""
    values = {
        "repository": defaults.repository,
        "branch": defaults.branch,
        "first": defaults.environments[0],
        "last": defaults.environments[-1],
    }
    return {
        CONFIG: defaults.text(),
        "README.md": _fill("repository/README.md", values),
        "applications/argocd/models.yaml": _fill("argocd/models.yaml", values),
    }


def _fill(template: str, values: Mapping[str, str]) -> str:
    return Template(_TEMPLATES.joinpath(template).read_text(encoding="utf-8")).substitute(values)


def _require(pattern: re.Pattern[str], value: str, sentence: str) -> None:
    if not pattern.fullmatch(value):
        raise ScaffoldError(sentence)
