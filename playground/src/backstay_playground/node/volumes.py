"""A pod's volumes as folders on the host, kept current in the way of a kubelet.

The files of a ConfigMap, Secret or projected volume lie in a dated folder; the link `..data` points to it and is
replaced at once, so a reader sees the old or the new files and never a mixture.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

from backstay_playground.node.api import Api, Json
from backstay_playground.node.environment import ConfigError, Objects, field

_ROOT_CA = "kube-root-ca.crt"
_DEFAULT_MODE = 0o644
_TOKEN_SECONDS = 3600
# A token is renewed when this share of its life is over, as a kubelet does.
_RENEW_SHARE = 0.8


@dataclass(frozen=True)
class File:
    """Content and permission bits."""

    content: bytes
    mode: int


Files = dict[str, File]
"""Path relative to the volume -> file."""


@dataclass(frozen=True)
class Token:
    """A service account token, and when to renew it in seconds since the epoch."""

    text: str
    renew_at: float


async def request_token(api: Api, pod: Json, source: Json) -> Token:
    """Ask the API server for a token that is bound to the pod.

    Raises:
        ApiError: it was refused.
    """
    metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
    answer = await api.request(
        "POST",
        f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
        body={
            "spec": {
                "audiences": [source["audience"]] if source.get("audience") else [],
                "expirationSeconds": source.get("expirationSeconds", _TOKEN_SECONDS),
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            }
        },
    )
    now = time.time()
    expiry = datetime.strptime(answer["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return Token(answer["status"]["token"], now + _RENEW_SHARE * (expiry.timestamp() - now))


def write_atomically(folder: Path, files: Mapping[str, File]) -> None:
    """Make the files of a volume current; a no-op when they already are."""
    data = folder / "..data"
    if data.exists() and _read(data) == files:
        return
    version = folder / f"..{time.time_ns()}"
    version.mkdir(parents=True)
    for path, file in files.items():
        target = version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    link = folder / "..data-next"
    link.unlink(missing_ok=True)
    link.symlink_to(version.name)
    link.replace(data)
    names = {path.split("/", 1)[0] for path in files}
    for entry in folder.iterdir():
        if entry.name.startswith(".."):
            if entry not in {version, data}:
                rmtree(entry)
        elif entry.name not in names:
            entry.unlink()
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)


def _read(folder: Path) -> Files:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): File(path.read_bytes(), path.stat().st_mode & 0o777) for path in paths}


def _pick(entries: Mapping[str, bytes], source: Json, default_mode: int) -> Files:
    items = source.get("items")
    if not items:
        return {name: File(content, default_mode) for name, content in entries.items()}
    for item in items:
        if item["key"] not in entries and not source.get("optional"):
            name = source.get("name") or source.get("secretName")
            raise ConfigError(f'"{name}" has no key {item["key"]}, which a volume needs')
    return {
        item["path"]: File(entries[item["key"]], item.get("mode", default_mode))
        for item in items
        if item["key"] in entries
    }


class Volumes:
    """The volumes of one pod below one folder."""

    def __init__(self, folder: Path, *, api: Api, objects: Objects) -> None:
        self._folder = folder
        self._api = api
        self._objects = objects
        self._tokens: dict[tuple[str, str], Token] = {}

    async def sync(self, pod: Json, *, address: str) -> None:
        """Make every volume current.

        Raises:
            ConfigError: something a volume needs does not exist, or the kind of volume is not offered.
            ApiError: a token was refused.
        """
        for volume in pod["spec"].get("volumes") or []:
            folder = self._folder / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                folder.chmod(0o777)
                continue
            write_atomically(folder, await self._files(volume, pod, address=address))

    @property
    def renew_at(self) -> float:
        """Return when the first token must be renewed, in seconds since the epoch; infinity without tokens."""
        return min((token.renew_at for token in self._tokens.values()), default=float("inf"))

    def mounts(self, container: Json) -> dict[str, Path]:
        """Return what of the volumes the container sees: path inside -> path on the host."""
        found: dict[str, Path] = {}
        for mount in container.get("volumeMounts") or []:
            source = self._folder / mount["name"]
            if mount.get("subPath"):
                source = source / mount["subPath"]
                if not source.exists():
                    source.mkdir(parents=True)
                # The file of the moment: as in a cluster, a mounted subPath does not follow updates.
                source = source.resolve()
            found[mount["mountPath"]] = source
        return found

    async def _files(self, volume: Json, pod: Json, *, address: str) -> Files:
        match volume:
            case {"configMap": source} | {"secret": source} | {"downwardAPI": source}:
                kind = next(kind for kind in ("configMap", "secret", "downwardAPI") if kind in volume)
                return await self._source({kind: source}, pod, address, source.get("defaultMode", _DEFAULT_MODE))
            case {"projected": projected}:
                files: Files = {}
                for source in projected.get("sources") or []:
                    files |= await self._source(source, pod, address, projected.get("defaultMode", _DEFAULT_MODE))
                return files
            case _:
                kinds = ", ".join(kind for kind in volume if kind != "name")
                raise ConfigError(
                    f"volume {volume['name']} is of kind {kinds}; the process node offers configMap, secret, "
                    "projected, downwardAPI and emptyDir"
                )

    async def _source(self, source: Json, pod: Json, address: str, mode: int) -> Files:
        namespace = pod["metadata"]["namespace"]
        match source:
            case {"configMap": wanted}:
                lookup: Callable[[], Mapping[str, bytes]] = lambda: self._config_map(namespace, wanted["name"])  # noqa: E731 - one line each
                return _optional(lookup, wanted, mode)
            case {"secret": wanted}:
                name = wanted.get("secretName") or wanted["name"]
                return _optional(lambda: self._objects.secret((namespace, name)), wanted, mode)
            case {"downwardAPI": wanted}:
                return {
                    item["path"]: File(
                        field(pod, item["fieldRef"]["fieldPath"], address=address).encode(), item.get("mode", mode)
                    )
                    for item in wanted.get("items") or []
                }
            case {"serviceAccountToken": wanted}:
                return {wanted["path"]: File((await self._token(pod, wanted)).text.encode(), mode)}
            case _:
                raise ConfigError(f"the process node does not offer the projected source {', '.join(source)}")

    def _config_map(self, namespace: str, name: str) -> Mapping[str, bytes]:
        if name == _ROOT_CA and (namespace, name) not in self._objects.config_maps and self._api.ca:
            # Without a controller manager nobody publishes it; the node trusts the same server.
            return {"ca.crt": self._api.ca}
        return self._objects.config_map((namespace, name))

    async def _token(self, pod: Json, source: Json) -> Token:
        key = (source.get("audience", ""), source["path"])
        token = self._tokens.get(key)
        if token is None or token.renew_at <= time.time():
            token = self._tokens[key] = await request_token(self._api, pod, source)
        return token


def _optional(lookup: Callable[[], Mapping[str, bytes]], source: Json, mode: int) -> Files:
    try:
        return _pick(lookup(), source, mode)
    except ConfigError:
        if source.get("optional"):
            return {}
        raise
