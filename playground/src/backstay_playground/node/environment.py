"""A container's environment: values, references, the downward API and $(NAME) expansion. Pure functions."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from backstay_playground.node.api import Json, Key


class ConfigError(Exception):
    """The pod names something that does not exist (yet) or that the node does not offer."""

    reason = "CreateContainerConfigError"


class ImageError(ConfigError):
    """No local command is known for an image."""

    reason = "ErrImagePull"


@dataclass(frozen=True)
class Objects:
    """The ConfigMaps and Secrets of the cluster, by namespace and name."""

    config_maps: Mapping[Key, Json]
    secrets: Mapping[Key, Json]

    def config_map(self, key: Key) -> Mapping[str, bytes]:
        """Return a ConfigMap's entries as bytes.

        Raises:
            ConfigError: it does not exist.
        """
        found = _require(self.config_maps, key, "configmap")
        text = {name: value.encode() for name, value in (found.get("data") or {}).items()}
        return text | {name: base64.b64decode(value) for name, value in (found.get("binaryData") or {}).items()}

    def secret(self, key: Key) -> Mapping[str, bytes]:
        """Return a Secret's entries as bytes.

        Raises:
            ConfigError: it does not exist.
        """
        found = _require(self.secrets, key, "secret")
        return {name: base64.b64decode(value) for name, value in (found.get("data") or {}).items()}


def _require(objects: Mapping[Key, Json], key: Key, kind: str) -> Json:
    if key not in objects:
        raise ConfigError(f'{kind} "{key[1]}" not found in namespace {key[0]}')
    return objects[key]


_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; `$$` stands for `$`, and an unknown name stays as it is written."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def field(pod: Json, path: str, *, address: str) -> str:
    """Return a field of the pod by its downward API path.

    Raises:
        ConfigError: the downward API has no such path.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    value = ""
    if found := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(found[1]) or {}).get(found[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            value = str(metadata[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            entries = (metadata.get(path.removeprefix("metadata.")) or {}).items()
            value = "\n".join(f'{name}="{text}"' for name, text in sorted(entries))
        case "spec.nodeName":
            value = str(spec.get("nodeName", ""))
        case "spec.serviceAccountName":
            value = str(spec.get("serviceAccountName", "default"))
        case "status.podIP" | "status.podIPs":
            value = address
        case "status.hostIP" | "status.hostIPs":
            value = "127.0.0.1"
        case _:
            raise ConfigError(f"the downward API has no field {path}")
    return value


def build(container: Json, pod: Json, *, address: str, objects: Objects, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a container: `base`, then envFrom, then env, each winning over what came before.

    Raises:
        ConfigError: a reference that is not optional leads nowhere.
    """
    values = dict(base)
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        values |= _from_source(source, namespace, objects)
    for entry in container.get("env") or []:
        if "valueFrom" not in entry:
            values[entry["name"]] = expand(entry.get("value", ""), values)
        elif "fieldRef" in entry["valueFrom"]:
            values[entry["name"]] = field(pod, entry["valueFrom"]["fieldRef"]["fieldPath"], address=address)
        else:
            values |= _referenced(entry, namespace, objects)
    return values


def _from_source(source: Json, namespace: str, objects: Objects) -> dict[str, str]:
    kind = "configMapRef" if "configMapRef" in source else "secretRef"
    reference = source[kind]
    key = (namespace, reference["name"])
    try:
        entries = objects.config_map(key) if kind == "configMapRef" else objects.secret(key)
    except ConfigError:
        if reference.get("optional"):
            return {}
        raise
    return {source.get("prefix", "") + name: value.decode(errors="replace") for name, value in entries.items()}


def _referenced(entry: Json, namespace: str, objects: Objects) -> dict[str, str]:
    match entry["valueFrom"]:
        case {"configMapKeyRef": reference}:
            lookup, kind = objects.config_map, "configmap"
        case {"secretKeyRef": reference}:
            lookup, kind = objects.secret, "secret"
        case other:
            raise ConfigError(f"env {entry['name']}: the process node does not offer {', '.join(other)}")
    try:
        entries = lookup((namespace, reference["name"]))
    except ConfigError:
        if reference.get("optional"):
            return {}
        raise
    if reference["key"] in entries:
        return {entry["name"]: entries[reference["key"]].decode(errors="replace")}
    if reference.get("optional"):
        return {}
    raise ConfigError(f'{kind} "{reference["name"]}" in namespace {namespace} has no key {reference["key"]}')
