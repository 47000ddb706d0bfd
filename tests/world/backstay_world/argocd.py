"""Argo CD in the simulated cluster: it syncs what Git declares of a model into the API server."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from backstay.adapters.argocd import REFRESH, TRACKING_ID
from backstay.adapters.kubernetes.client import APPLICATION, MODEL_DEPLOYMENT
from backstay.domain.resource import IDENTITY_FIELDS, Key
from backstay_world.fields import Object
from backstay_world.git import FILE, GitServer, read
from backstay_world.objects import Change, Objects, slot_of

URL = "https://git.example.com/ml/models.git"
_NAMESPACE = "argocd"
_LOOKS_AFTER = 0.3
_POLLS_EVERY = 180.0
_MANAGER = "argocd-controller"


@dataclass(slots=True)
class ArgoCD:
    """Delivers each model by an Application of its own, after a refresh or at the next poll.

    ``bases`` are the manifests that the version files patch, by model; ``held`` are models that it does not sync now.
    """

    objects: Objects
    git: GitServer
    loop: asyncio.AbstractEventLoop
    bases: dict[Key, Object] = field(default_factory=dict)
    held: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.objects.listeners.append(self._changed)

    def deliver(self, key: Key, base: Object) -> None:
        """Begin to deliver a model."""
        self.bases[key] = base
        source = {"repoURL": URL, "path": path_of(key), "targetRevision": self.git.main}
        listed = {"group": MODEL_DEPLOYMENT.group, "kind": MODEL_DEPLOYMENT.kind}
        self.objects.create(
            APPLICATION,
            {
                "metadata": {"name": _name(key), "namespace": _NAMESPACE},
                "spec": {
                    "source": source,
                    "destination": {"server": "https://kubernetes.default.svc"},
                    "syncPolicy": {"automated": {}},
                },
                "status": {"resources": [{**listed, "namespace": key.namespace, "name": key.name}], "sync": {}},
            },
            _MANAGER,
        )
        self.sync(key)
        self.loop.call_later(_POLLS_EVERY, lambda: self._poll(key))

    def _poll(self, key: Key) -> None:
        self.sync(key)
        self.loop.call_later(_POLLS_EVERY, lambda: self._poll(key))

    def _changed(self, change: Change) -> None:
        if change.kind is not APPLICATION or change.after is None:
            return
        if REFRESH in (change.after["metadata"].get("annotations") or {}):
            name = slot_of(change.after)[1]
            key = next(key for key in self.bases if _name(key) == name)
            self.loop.call_later(_LOOKS_AFTER, lambda: self.sync(key))

    def sync(self, key: Key) -> None:
        """Apply what the newest commit declares, and say so."""
        if key in self.held:
            return
        head = self.git.head
        self.objects.apply(MODEL_DEPLOYMENT, self.rendered(key, head), _MANAGER)

        def synced(application: Object) -> Object:
            meta = dict(application["metadata"])
            meta["annotations"] = {
                name: value for name, value in (meta.get("annotations") or {}).items() if name != REFRESH
            }
            done = {"sync": {"status": "Synced", "revision": head}, "operationState": {"phase": "Succeeded"}}
            return {**application, "metadata": meta, "status": {**application["status"], **done}}

        self.objects.patch(APPLICATION, (_NAMESPACE, _name(key)), synced, _MANAGER)

    def rendered(self, key: Key, commit: str) -> Object:
        """Put the version that a commit declares into the base."""
        declared = read(self.git.commits[commit].files[f"{path_of(key)}/{FILE}"], key.name)
        model: dict[str, Any] = {
            **self.bases[key]["spec"].get("model", {}),
            **{theirs: said for ours, theirs in IDENTITY_FIELDS.items() if (said := getattr(declared.identity, ours))},
        }
        names = {"version": "version", "digest": "digest", "rollback_id": "rollbackID"}
        if declared.rejected:
            model["rejectedVersions"] = [
                {theirs: said for ours, theirs in names.items() if (said := getattr(entry, ours))}
                for entry in declared.rejected
            ]
        if declared.retry_of:
            model["retryOf"] = declared.retry_of
        base = self.bases[key]
        tracking = f"{_name(key)}:{MODEL_DEPLOYMENT.group}/{MODEL_DEPLOYMENT.kind}:{key.namespace}/{key.name}"
        return {
            **base,
            "metadata": {**base["metadata"], "annotations": {TRACKING_ID: tracking}},
            "spec": {**base["spec"], "model": model},
        }


def path_of(key: Key) -> str:
    """Return the folder in Git that declares a model."""
    return f"models/{key.name}/overlays/{key.namespace}"


def _name(key: Key) -> str:
    return f"{key.name}-{key.namespace}"
