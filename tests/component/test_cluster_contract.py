"""One contract for the API server that the controller relies on, kept by a real one and by the simulated one."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pytest
import yaml
from backstay_world.apiserver import ApiServer, Client
from backstay_world.looptime import SimulatedLoop
from backstay_world.objects import Objects
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from backstay.adapters.kubernetes.client import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    MODEL_DEPLOYMENT,
    SERVICE,
    Cluster,
    ConflictError,
    Kind,
    NotFoundError,
    Object,
    RefusedError,
)
from backstay.adapters.kubernetes.manifests import covers, others
from backstay_playground.playground import Playground

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]
NAMESPACE = "contract"
LABELS = {"app.kubernetes.io/managed-by": "backstay"}
T = TypeVar("T")


class RealCluster(Protocol):
    """What these tests need of the fixture `bare_cluster`."""

    playground: Playground

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


class Server:
    """An API server under the contract: the controller's own client, and somebody else's writes."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, cluster: Cluster, meddle: Callable[[Kind, Object], Awaitable[Object]]
    ) -> None:
        self._loop = loop
        self.cluster = cluster
        self._meddle = meddle
        self._number = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def meddle(self, kind: Kind, body: Object) -> Object:
        """Replace an object as another manager."""
        return self.run(cast("Coroutine[Any, Any, Object]", self._meddle(kind, body)))

    def get(self, kind: Kind, name: str) -> Object:
        return self.run(self.cluster.get(kind, NAMESPACE, name))

    def name(self) -> str:
        """Return a name that no other test has."""
        self._number += 1
        return f"object-{self._number}"


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    loop = SimulatedLoop()
    server = ApiServer(Objects(loop.time), loop)

    async def meddle(kind: Kind, body: Object) -> Object:
        return server.objects.replace(kind, body, "somebody-else")

    with closing(loop):
        yield Server(loop, Cluster(cast("ApiClient", Client(server))), meddle)


@pytest.fixture(scope="module")
def real(bare_cluster: RealCluster) -> Iterator[Server]:
    answer = bare_cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "operator" / "config" / "crd"))
    assert answer.returncode == 0, answer.stderr
    answer = bare_cluster.kubectl("wait", "--for=condition=Established", f"crd/{MODEL_DEPLOYMENT.plural}.backstay.dev")
    assert answer.returncode == 0, answer.stderr
    bare_cluster.kubectl("create", "namespace", NAMESPACE)
    loop = asyncio.new_event_loop()

    async def connect() -> Cluster:
        configuration = Configuration()
        await config.load_kube_config(str(bare_cluster.kubeconfig), client_configuration=configuration)
        return Cluster(ApiClient(configuration))

    cluster = loop.run_until_complete(connect())

    async def meddle(kind: Kind, body: Object) -> Object:
        said = bare_cluster.kubectl("replace", "--field-manager=somebody-else", "-f", "-", stdin=json.dumps(body))
        assert said.returncode == 0, said.stderr
        return await cluster.get(kind, NAMESPACE, body["metadata"]["name"])

    with closing(loop):
        yield Server(loop, cluster, meddle)
        loop.run_until_complete(cluster.close())


@pytest.fixture(params=["simulated", "real"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def config_map(name: str, **data: str) -> Object:
    meta = {"name": name, "namespace": NAMESPACE, "labels": LABELS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def deployment(name: str, *, replicas: int = 1, **env: str) -> Object:
    labels = {"app": name}
    container = {"name": "model", "image": "model:1", "env": [{"name": k, "value": v} for k, v in env.items()]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def model(name: str) -> Object:
    body: Object = yaml.safe_load((Path(__file__).parent / "good_specs" / "minimal.yaml").read_text(encoding="utf-8"))
    body["metadata"] = {"name": name, "namespace": NAMESPACE}
    return body


def revision(name: str, **data: str) -> Object:
    meta = {"name": name, "namespace": NAMESPACE, "labels": LABELS}
    return {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": meta, "data": data, "revision": 1}


def version_of(body: Object) -> int:
    return int(body["metadata"]["resourceVersion"])


def test_what_does_not_exist_is_not_found(server: Server) -> None:
    with pytest.raises(NotFoundError, match="not found"):
        server.get(CONFIG_MAP, "missing")
    server.run(server.cluster.delete(CONFIG_MAP, NAMESPACE, "missing"))


def test_what_exists_is_not_created_again(server: Server) -> None:
    name = server.name()
    server.run(server.cluster.create(CONFIG_MAP, config_map(name, a="1")))
    with pytest.raises(ConflictError, match="already exists"):
        server.run(server.cluster.create(CONFIG_MAP, config_map(name, a="2")))
    assert server.get(CONFIG_MAP, name)["data"] == {"a": "1"}


def test_every_change_has_a_higher_version_and_no_change_has_none(server: Server) -> None:
    name = server.name()
    first = server.run(server.cluster.apply(CONFIG_MAP, config_map(name, a="1")))
    second = server.run(server.cluster.apply(CONFIG_MAP, config_map(name, a="2")))
    again = server.run(server.cluster.apply(CONFIG_MAP, config_map(name, a="2")))
    assert version_of(first) < version_of(second) == version_of(again)


def test_a_replacement_with_an_old_version_is_a_conflict(server: Server) -> None:
    name = server.name()
    old = server.run(server.cluster.create(CONFIG_MAP, config_map(name, a="1")))
    server.run(server.cluster.replace(CONFIG_MAP, {**old, "data": {"a": "2"}}))
    with pytest.raises(ConflictError, match="has been modified"):
        server.run(server.cluster.replace(CONFIG_MAP, {**old, "data": {"a": "3"}}))
    assert server.get(CONFIG_MAP, name)["data"] == {"a": "2"}


def test_a_custom_object_is_not_replaced_without_a_version(server: Server) -> None:
    name = server.name()
    server.run(server.cluster.create(MODEL_DEPLOYMENT, model(name)))
    with pytest.raises(RefusedError, match="must be specified for an update"):
        server.run(server.cluster.replace(MODEL_DEPLOYMENT, model(name)))


def test_status_and_spec_are_written_apart_and_only_the_spec_is_counted(server: Server) -> None:
    name = server.name()
    made = server.run(server.cluster.create(MODEL_DEPLOYMENT, {**model(name), "status": {"phase": "Stable"}}))
    assert (made["metadata"]["generation"], "phase" in made.get("status", {})) == (1, False)
    told = server.run(
        server.cluster.replace_status(MODEL_DEPLOYMENT, {**made, "status": {"phase": "Pending"}, "spec": {"model": {}}})
    )
    assert (told["metadata"]["generation"], told["status"]["phase"]) == (1, "Pending")
    assert told["spec"]["model"] == made["spec"]["model"]
    with pytest.raises(ConflictError):
        server.run(server.cluster.replace_status(MODEL_DEPLOYMENT, {**made, "status": {"phase": "Stable"}}))
    patch = {"spec": {"model": {"version": "8"}}}
    changed = server.run(server.cluster.merge(MODEL_DEPLOYMENT, NAMESPACE, name, patch))
    assert (changed["metadata"]["generation"], changed["status"]["phase"]) == (2, "Pending")
    noted = server.run(
        server.cluster.merge(MODEL_DEPLOYMENT, NAMESPACE, name, {"metadata": {"annotations": {"a": "b"}}})
    )
    assert noted["metadata"]["generation"] == 2
    assert version_of(noted) > version_of(changed)


def test_a_merge_patch_takes_out_what_is_null(server: Server) -> None:
    name = server.name()
    server.run(server.cluster.create(CONFIG_MAP, config_map(name, a="1", b="2")))
    after = server.run(server.cluster.merge(CONFIG_MAP, NAMESPACE, name, {"data": {"a": None, "c": "3"}}))
    assert after["data"] == {"b": "2", "c": "3"}


def test_the_data_of_a_controller_revision_never_changes(server: Server) -> None:
    name = server.name()
    made = server.run(server.cluster.create(CONTROLLER_REVISION, revision(name, a="1")))
    with pytest.raises(RefusedError, match="immutable"):
        server.run(server.cluster.replace(CONTROLLER_REVISION, {**made, "data": {"a": "2"}}))


def test_what_is_applied_no_longer_goes(server: Server) -> None:
    name = server.name()
    server.run(server.cluster.apply(DEPLOYMENT, deployment(name, A="1", B="2")))
    after = server.run(server.cluster.apply(DEPLOYMENT, deployment(name, A="1")))
    assert after["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]


def test_applying_takes_back_a_field_that_somebody_else_changed(server: Server) -> None:
    name, wanted = server.name(), 3
    body = deployment(name, replicas=wanted)
    live = server.run(server.cluster.apply(DEPLOYMENT, body))
    changed = server.meddle(DEPLOYMENT, {**live, "spec": {**live["spec"], "replicas": 7}})
    assert changed["spec"]["replicas"] == 7
    assert others(changed["metadata"])
    after = server.run(server.cluster.apply(DEPLOYMENT, body))
    assert after["spec"]["replicas"] == wanted
    assert not others(after["metadata"])


def test_what_somebody_adds_beside_stays_until_the_spec_is_replaced(server: Server) -> None:
    name = server.name()
    body = deployment(name, A="1")
    live = server.run(server.cluster.apply(DEPLOYMENT, body))
    containers = live["spec"]["template"]["spec"]["containers"]
    pods = {**live["spec"]["template"]["spec"], "containers": [*containers, {"name": "beside", "image": "other:1"}]}
    template = {**live["spec"]["template"], "spec": pods}
    server.meddle(DEPLOYMENT, {**live, "spec": {**live["spec"], "template": template}})
    applied = server.run(server.cluster.apply(DEPLOYMENT, body))
    names = [one["name"] for one in applied["spec"]["template"]["spec"]["containers"]]
    assert sorted(names) == ["beside", "model"]
    assert others(applied["metadata"])
    after = server.run(server.cluster.replace_spec(DEPLOYMENT, body))
    assert covers(body["spec"], after["spec"])
    assert not others(after["metadata"])


def test_a_status_that_another_reports_is_not_a_part_of_the_spec(server: Server) -> None:
    name = server.name()
    live = server.run(server.cluster.apply(DEPLOYMENT, deployment(name)))
    told = server.run(
        server.cluster.replace_status(DEPLOYMENT, {**live, "status": {"observedGeneration": 1, "replicas": 1}})
    )
    assert told["metadata"]["generation"] == 1
    assert not others(told["metadata"])


def test_a_listing_has_what_the_labels_select_and_a_version(server: Server) -> None:
    name = server.name()
    made = server.run(server.cluster.create(SERVICE, service(name, LABELS)))
    server.run(server.cluster.create(SERVICE, service(server.name(), {})))

    async def pages() -> list[Any]:
        return [page async for page in server.cluster.pages(SERVICE, labels="app.kubernetes.io/managed-by=backstay")]

    (page,) = server.run(pages())
    assert [item["metadata"]["name"] for item in page.items] == [name]
    assert page.version >= version_of(made)


def service(name: str, labels: dict[str, str]) -> Object:
    meta = {"name": name, "namespace": NAMESPACE, "labels": labels}
    spec = {"selector": {"app": name}, "ports": [{"port": 8080, "protocol": "TCP"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def test_it_tells_which_kinds_it_serves(server: Server) -> None:
    assert server.run(server.cluster.serves(MODEL_DEPLOYMENT))
    assert not server.run(server.cluster.serves(Kind("nothing.example.com/v1", "Nothing", "nothings")))
