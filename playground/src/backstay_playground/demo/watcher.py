"""What the API server carried, and when: a watch of one namespace's models, routes and Applications."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch

from backstay_playground.errors import PlaygroundError


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of custom object."""

    group: str
    version: str
    plural: str


MODEL_DEPLOYMENTS = Resource("backstay.dev", "v1alpha1", "modeldeployments")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")


@dataclass(frozen=True, slots=True)
class Seen:
    """One state of an object, and when the watch delivered it (Unix seconds)."""

    at: float
    body: dict[str, Any]


class Watcher:
    """Keeps every state of the objects of one kind and name, from a thread of its own."""

    def __init__(self, kubeconfig: Path, resource: Resource, *, namespace: str, name: str) -> None:
        api = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))
        self._list = api.list_namespaced_custom_object
        self._arguments = (resource.group, resource.version, namespace, resource.plural)
        self._name = name
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{resource.plural}", daemon=True)

    def start(self) -> "Watcher":
        """Start watching."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop watching; the thread ends with the present request."""
        self._stop.set()

    def states(self, *, since: float = 0.0) -> list[Seen]:
        """Return the states seen since a time."""
        with self._changed:
            return [seen for seen in self._seen if seen.at >= since]

    def latest(self) -> dict[str, Any]:
        """Return the last state, or an empty object."""
        with self._changed:
            return self._seen[-1].body if self._seen else {}

    def wait(
        self, what: str, condition: Callable[[dict[str, Any]], bool], *, timeout: float, since: float = 0.0
    ) -> Seen:
        """Wait for the first state since a time that meets a condition.

        Raises:
            PlaygroundError: when none does in time; the text shows the last state's message.
        """
        deadline = time.monotonic() + timeout
        checked = 0
        with self._changed:
            while True:
                for seen in self._seen[checked:]:
                    if seen.at >= since and condition(seen.body):
                        return seen
                checked = len(self._seen)
                left = deadline - time.monotonic()
                if left <= 0:
                    last = self._seen[-1].body.get("status", {}) if self._seen else "nothing"
                    raise PlaygroundError(f"{what}: not within {timeout:.0f} s; the last state of {self._name}: {last}")
                self._changed.wait(min(left, 1.0))

    def _run(self) -> None:
        version = ""
        while not self._stop.is_set():
            try:
                stream = watch.Watch().stream(
                    self._list,
                    *self._arguments,
                    field_selector=f"metadata.name={self._name}",
                    timeout_seconds=30,
                    **({"resource_version": version} if version else {}),
                )
                for event in stream:
                    body = event["object"]
                    version = body["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._note(body if event["type"] != "DELETED" else {**body, "deleted": True})
                    if self._stop.is_set():
                        return
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
                # The API server was restarted, or the version is too old: start from what is there now.
                version = ""
                self._stop.wait(0.2)

    def _note(self, body: dict[str, Any]) -> None:
        with self._changed:
            same = (
                self._seen and self._seen[-1].body["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]
            )
            if not same:
                self._seen.append(Seen(time.time(), body))
                self._changed.notify_all()


def weights(route: dict[str, Any]) -> dict[str, int]:
    """Read the weights of an HTTPRoute, by Service."""
    return {
        ref["name"]: ref.get("weight", 1)
        for rule in route.get("spec", {}).get("rules", ())
        for ref in rule.get("backendRefs", ())
    }
