"""The process node against a real API server and controller manager: pods are processes, Services lead to them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

pytestmark = [pytest.mark.component, pytest.mark.timeout(180)]

PROGRAM = Path(__file__).parent / "pod_program.py"
NAMESPACE = "node-tests"
# Not the playground's own, so that one may run at the same time.
POD_NETWORK = "127.101.0.0/16"
Json = dict[str, Any]


class Cluster(Protocol):
    """What these tests need of the fixture `controllers`."""

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...
    def start_api_server(self) -> None: ...
    def stop_api_server(self) -> None: ...


def eventually(seconds: float = 20) -> Retrying:
    """Repeat until neither an assertion nor a connection fails."""
    failures = retry_if_exception_type((AssertionError, httpx.TransportError))
    return Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.05), retry=failures, reraise=True)


def ask(url: str) -> str:
    """Return the text of an answer."""
    with httpx.Client(trust_env=False, timeout=5) as client:
        answer = client.get(url)
    assert answer.status_code == 200, answer.text
    return answer.text


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@dataclass
class Node:
    """The node as a process of its own, and kubectl in the tests' namespace."""

    cluster: Cluster
    state: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str) -> None:
        images = self.state / "images.json"
        self.state.mkdir(exist_ok=True)
        images.write_text(json.dumps({"tests/web:1": [sys.executable, str(PROGRAM)]}))
        argv = [sys.executable, "-m", "backstay_playground.node", "--kubeconfig", str(self.cluster.kubeconfig)]
        argv += ["--state", str(self.state), "--logs", str(self.state / "logs"), "--images", str(images)]
        argv += ["--port", str(self.port)]
        with (self.state / "node.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen([*argv, "--pod-network", POD_NETWORK, *options], stdout=log, stderr=subprocess.STDOUT)
            )
        for attempt in eventually():
            with attempt:
                assert ask(f"http://127.0.0.1:{self.port}/healthz") == "ok"

    def end(self, number: signal.Signals) -> None:
        process = self.processes.pop()
        process.send_signal(number)
        process.wait(timeout=20)

    def reap(self) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "backstay_playground.node.reap", "--state", str(self.state)]
        return subprocess.run(argv, capture_output=True, text=True, check=True)

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        answer = self.cluster.kubectl(*args, "--namespace", NAMESPACE, stdin=stdin)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def apply(self, *objects: Json) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, *args: str) -> Json:
        answer: Json = json.loads(self.kubectl("get", *args, "-o", "json"))
        return answer

    def pods(self, label: str) -> list[Json]:
        """Return the pods with `app=label`, those that are being deleted left out."""
        items: list[Json] = self.get("pods", "-l", f"app={label}")["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    def ready_pods(self, label: str, count: int) -> list[Json]:
        """Wait until exactly `count` pods exist and all are ready."""
        for attempt in eventually():
            with attempt:
                pods = self.pods(label)
                assert [condition(pod, "Ready") for pod in pods] == ["True"] * count, pods
        return pods

    def pids(self) -> dict[str, int]:
        """Return the pods' processes by pod name; containers that do not run are left out."""
        pods = json.loads(ask(f"http://127.0.0.1:{self.port}/pods"))
        found = {pod["name"]: pod["containers"][-1]["containerID"].removeprefix("process://") for pod in pods}
        return {name: int(pid) for name, pid in found.items() if pid}

    def log(self, pod: str, container: str = "main") -> str:
        return (self.state / "logs" / f"{NAMESPACE}_{pod}_{container}.log").read_text()


@pytest.fixture
def node(running_node: Node) -> Iterator[Node]:
    yield running_node
    running_node.kubectl("delete", "deployments,jobs,pods,services", "--all")
    for attempt in eventually():
        with attempt:
            assert running_node.pids() == {}


@pytest.fixture(scope="module")
def running_node(controllers: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = Node(controllers, tmp_path_factory.mktemp("node"), port)
    controllers.kubectl("create", "namespace", NAMESPACE)
    node.start()
    try:
        for attempt in eventually():
            with attempt:
                node.get("serviceaccount", "default")
                node.get("configmap", "kube-root-ca.crt")
        yield node
    finally:
        while node.processes:
            node.end(signal.SIGKILL)
        node.reap()


def condition(pod: Json, kind: str) -> str:
    """Return the status of a condition; Unknown when there is none."""
    conditions = pod["status"].get("conditions", [])
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "Unknown")


def web(**changes: Any) -> Json:
    """Return the container that runs `pod_program.py`."""
    names = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP"}
    own = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in names.items()]
    return {
        "name": "main",
        "image": "tests/web:1",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
        **changes,
        "env": [*own, *changes.get("env", [])],
    }


def shell(script: str, **changes: Any) -> Json:
    """Return a container that runs a shell script; its image does not matter."""
    return {"name": "main", "image": "tests/none", "command": ["sh", "-c", script], **changes}


def pod(name: str, container: Json, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5, **spec},
    }


def deployment(name: str, replicas: int, container: Json) -> Json:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def service(name: str, **changes: Any) -> Json:
    spec = {"selector": {"app": name}, "ports": [{"port": 8080, "targetPort": "http"}], **changes.pop("spec", {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, **changes}, "spec": spec}


def url_of(node: Node, name: str) -> str:
    """Return the address of a Service once somebody answers there."""
    url = f"http://{node.get('service', name)['spec']['clusterIP']}:8080"
    for attempt in eventually():
        with attempt:
            ask(url)
    return url


def test_a_service_spreads_requests_over_its_ready_pods(node: Node) -> None:
    node.apply(deployment("spread", 3, web()), service("spread"))
    pods = node.ready_pods("spread", 3)
    assert len({each["status"]["podIP"] for each in pods}) == 3
    url = url_of(node, "spread")
    answers = [ask(url) for _ in range(9)]
    assert {answers.count(each["metadata"]["name"]) for each in pods} == {3}


async def test_a_rollout_under_traffic_fails_no_request(node: Node) -> None:
    pause = {"preStop": {"sleep": {"seconds": 1}}}
    node.apply(deployment("rolling", 3, web(lifecycle=pause)), service("rolling"))
    before = {each["metadata"]["name"] for each in node.ready_pods("rolling", 3)}
    url = url_of(node, "rolling")
    node.kubectl("rollout", "restart", "deployment/rolling")
    rollout = asyncio.create_task(asyncio.to_thread(node.kubectl, "rollout", "status", "deployment/rolling"))
    seen: list[str] = []

    async def visit() -> None:
        # Until the rollout is over and what it left of the old pods is gone.
        while not rollout.done() or before & node.pids().keys():
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                answer = await client.get(url)
            assert answer.status_code == 200
            seen.append(answer.text)

    async with asyncio.timeout(60):
        await asyncio.gather(*(visit() for _ in range(2)))
    assert before & set(seen)
    assert set(seen) - before
    assert "successfully rolled out" in await rollout


def test_a_pod_sees_its_configuration(node: Node) -> None:
    node.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "blue"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"password": "open"}},
        service("sees"),
        pod(
            "sees",
            web(
                envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "THE_"}],
                env=[
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
                    {"name": "WHERE", "value": "http://$(POD_IP):8080"},
                ],
                volumeMounts=[
                    {"name": "settings", "mountPath": "/etc/backstay/settings"},
                    {"name": "login", "mountPath": "/login"},
                    {"name": "shared", "mountPath": "/data/shared"},
                ],
            ),
            initContainers=[
                shell("echo first > /out/file", name="one", volumeMounts=[{"name": "shared", "mountPath": "/out"}]),
                shell("echo second >> /out/file", name="two", volumeMounts=[{"name": "shared", "mountPath": "/out"}]),
            ],
            volumes=[
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "login", "secret": {"secretName": "login", "items": [{"key": "password", "path": "a/b"}]}},
                {"name": "shared", "emptyDir": {}},
            ],
        ),
    )
    [sees] = node.ready_pods("sees", 1)
    url = f"http://{sees['status']['podIP']}:8080"
    assert ask(f"{url}/env/THE_colour") == "blue"
    assert ask(f"{url}/env/PASSWORD") == "open"
    assert ask(f"{url}/env/WHERE") == url
    assert ask(f"{url}/file/etc/backstay/settings/colour") == "blue"
    assert ask(f"{url}/file/login/a/b") == "open"
    assert ask(f"{url}/file/data/shared/file") == "first\nsecond\n"
    assert ask(f"{url}/api") == f"system:serviceaccount:{NAMESPACE}:default"
    assert not Path("/login").exists()

    # What changes in the cluster arrives in the running pod.
    node.kubectl("patch", "configmap", "settings", "-p", '{"data": {"colour": "green"}}')
    node.apply(service("later"))
    address = node.get("service", "later")["spec"]["clusterIP"]
    for attempt in eventually():
        with attempt:
            assert ask(f"{url}/file/etc/backstay/settings/colour") == "green"
            assert ask(f"{url}/hosts/later.{NAMESPACE}.svc.cluster.local") == address
    assert ask(f"{url}/env/THE_colour") == "blue"


def test_no_token_where_none_is_wanted(node: Node) -> None:
    node.apply(pod("tokenless", web(), automountServiceAccountToken=False))
    [tokenless] = node.ready_pods("tokenless", 1)
    with pytest.raises(AssertionError, match="No such file"):
        ask(f"http://{tokenless['status']['podIP']}:8080/api")


def test_a_pod_that_is_not_ready_gets_no_connection(node: Node, tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    node.apply(pod("shy", web(env=[{"name": "READY_FILE", "value": str(mark)}])), service("shy"))
    url = f"http://{node.get('service', 'shy')['spec']['clusterIP']}:8080"
    for attempt in eventually():
        with attempt:
            [shy] = node.pods("shy")
            assert ask(f"http://{shy['status']['podIP']}:8080") == "shy"
    assert condition(shy, "Ready") == "False"
    with pytest.raises(httpx.TransportError):
        ask(url)
    mark.touch()
    node.ready_pods("shy", 1)
    assert url_of(node, "shy") == url
    mark.unlink()
    for attempt in eventually():
        with attempt:
            assert condition(node.get("pod", "shy"), "Ready") == "False"
    with pytest.raises(httpx.TransportError):
        ask(url)


def test_a_service_without_selector_leads_to_its_target(node: Node) -> None:
    # The node's own port stands for a component that runs outside of the cluster.
    notes = {"playground.backstay.dev/target": f"127.0.0.1:{node.port}"}
    fixed = service("fixed", annotations=notes)
    del fixed["spec"]["selector"]
    node.apply(fixed)
    address = node.get("service", "fixed")["spec"]["clusterIP"]
    for attempt in eventually():
        with attempt:
            assert ask(f"http://{address}:8080/healthz") == "ok"


def test_a_killed_container_is_started_again(node: Node) -> None:
    node.apply(pod("killed", web()))
    [before] = node.ready_pods("killed", 1)
    os.kill(node.pids()["killed"], signal.SIGKILL)
    for attempt in eventually():
        with attempt:
            [after] = node.pods("killed")
            [status] = after["status"]["containerStatuses"]
            assert (status["restartCount"], condition(after, "Ready")) == (1, "True")
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert after["status"]["podIP"] == before["status"]["podIP"]


def test_a_failed_liveness_probe_restarts_the_container(node: Node, tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    mark.touch()
    check = {"exec": {"command": ["test", "-f", str(mark)]}, "periodSeconds": 1, "failureThreshold": 1}
    node.apply(pod("lively", shell("exec sleep 1000", livenessProbe=check, startupProbe=check)))
    node.ready_pods("lively", 1)
    mark.unlink()
    for attempt in eventually():
        with attempt:
            assert "terminated" in node.get("pod", "lively")["status"]["containerStatuses"][0]["lastState"]


def test_what_keeps_a_pod_from_running_is_told(node: Node) -> None:
    label = "backstay.dev/test-shelf"
    missing = [{"configMapRef": {"name": "missing"}}]
    node.apply(
        pod("unknown", {"name": "main", "image": "tests/unknown:1"}),
        pod("waits", shell("exec sleep 1000", envFrom=missing)),
        pod("placed", shell("exec sleep 1000"), nodeSelector={label: "top"}),
        pod("fails", shell("echo out of luck; exit 3")),
    )
    for attempt in eventually():
        with attempt:
            waiting = {
                name: node.get("pod", name)["status"]["containerStatuses"][0]["state"].get("waiting", {})
                for name in ("unknown", "waits", "fails")
            }
            assert all(waiting.values())
            assert waiting["unknown"]["reason"] == "ErrImagePull"
            assert f'"tests/unknown:1" is not in {node.state}/images.json' in waiting["unknown"]["message"]
            assert waiting["waits"]["reason"] == "CreateContainerConfigError"
            assert '"missing" not found' in waiting["waits"]["message"]
            assert waiting["fails"]["reason"] == "CrashLoopBackOff"
            last = node.get("pod", "fails")["status"]["containerStatuses"][0]["lastState"]["terminated"]
            assert (last["exitCode"], last["message"]) == (3, "out of luck\n")
            [refused] = node.get("pod", "placed")["status"]["conditions"]
            assert (refused["status"], refused["reason"]) == ("False", "Unschedulable")
            assert f"{label}=top" in refused["message"]

    node.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "missing"}, "data": {"a": "b"}})
    node.ready_pods("waits", 1)
    assert node.cluster.kubectl("label", "node", "playground", f"{label}=top").returncode == 0
    node.ready_pods("placed", 1)


def test_jobs_run_to_their_end(node: Node) -> None:
    def job(name: str, script: str, policy: str) -> Json:
        container = shell(script, volumeMounts=[{"name": "memory", "mountPath": "/memory"}])
        template = {
            "spec": {
                "containers": [container],
                "restartPolicy": policy,
                "volumes": [{"name": "memory", "emptyDir": {}}],
            }
        }
        spec = {"backoffLimit": 2 if policy == "OnFailure" else 0, "template": template}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    again = "test -f /memory/tried || { touch /memory/tried; exit 1; }"
    node.apply(job("second-try", again, "OnFailure"), job("no-luck", "exit 4", "Never"))
    for attempt in eventually():
        with attempt:
            assert node.get("job", "second-try")["status"].get("succeeded") == 1
            assert node.get("job", "no-luck")["status"].get("failed") == 1
    [pod] = node.get("pods", "-l", "job-name=no-luck")["items"]
    assert pod["status"]["phase"] == "Failed"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4


def test_deletion_gives_grace_and_then_kills(node: Node) -> None:
    farewell = {"preStop": {"exec": {"command": ["sh", "-c", "echo farewell > /shared/hook"]}}}
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    polite = "trap 'cat /shared/hook; echo polite; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    node.apply(
        pod(
            "polite",
            shell(polite, lifecycle=farewell, volumeMounts=mounts),
            volumes=[{"name": "shared", "emptyDir": {}}],
        ),
        pod("stubborn", shell(stubborn), terminationGracePeriodSeconds=1),
    )
    for name in ("polite", "stubborn"):
        node.ready_pods(name, 1)
        for attempt in eventually():
            with attempt:
                assert node.log(name) == "up\n"
    pids = node.pids()
    node.kubectl("delete", "pod", "polite", "stubborn", "--timeout=20s")
    assert node.log("polite") == "up\nfarewell\npolite\n"
    assert not is_alive(pids["polite"])
    assert not is_alive(pids["stubborn"])


def test_a_restarted_node_takes_over_what_runs(node: Node) -> None:
    node.apply(deployment("kept", 2, web()), service("kept"), pod("orphan", web()))
    node.ready_pods("kept", 2)
    node.ready_pods("orphan", 1)
    url = url_of(node, "kept")
    before = node.pids()

    node.end(signal.SIGKILL)
    assert all(is_alive(pid) for pid in before.values())
    node.kubectl("delete", "pod", "orphan", "--force", "--grace-period=0")
    node.start()
    for attempt in eventually():
        with attempt:
            assert not is_alive(before["orphan"])
    kept = {name: pid for name, pid in before.items() if name.startswith("kept")}
    assert {name: node.pids()[name] for name in kept} == kept
    for each in node.ready_pods("kept", 2):
        assert each["status"]["containerStatuses"][0]["restartCount"] == 0
    ask(url)

    node.end(signal.SIGTERM)
    assert all(is_alive(pid) for pid in kept.values())
    os.kill(next(iter(kept.values())), signal.SIGKILL)
    node.start()
    for attempt in eventually():
        with attempt:
            counts = [each["status"]["containerStatuses"][0]["restartCount"] for each in node.ready_pods("kept", 2)]
            assert sorted(counts) == [0, 1]


def test_an_api_server_that_comes_back_finds_the_node_at_work(node: Node) -> None:
    node.apply(deployment("steady", 1, web()), service("steady"))
    node.ready_pods("steady", 1)
    url = url_of(node, "steady")
    before = node.pids()
    node.cluster.stop_api_server()
    assert ask(url).startswith("steady")
    node.cluster.start_api_server()
    node.kubectl("scale", "deployment/steady", "--replicas=2")
    names = {each["metadata"]["name"] for each in node.ready_pods("steady", 2)}
    after = node.pids()
    assert len(names) == 2
    assert {name: after[name] for name in before if name.startswith("steady")}.items() <= before.items()


def test_a_node_takes_its_pods_along_when_told_to(node: Node) -> None:
    node.apply(deployment("taken", 2, web()))
    node.ready_pods("taken", 2)
    node.end(signal.SIGTERM)
    node.start("--stop-pods-on-exit")
    pids = node.pids()
    node.end(signal.SIGTERM)
    assert not any(is_alive(pid) for pid in pids.values())
    node.start()
    node.ready_pods("taken", 2)


def test_reap_leaves_nothing_behind(node: Node) -> None:
    node.apply(deployment("reaped", 2, web()))
    node.ready_pods("reaped", 2)
    pids = node.pids()
    node.end(signal.SIGKILL)
    assert f"{len(pids)} containers ended" in node.reap().stdout
    assert not any(is_alive(pid) for pid in pids.values())
    assert node.reap().stdout == "0 containers ended\n"
    node.start()
    node.ready_pods("reaped", 2)
