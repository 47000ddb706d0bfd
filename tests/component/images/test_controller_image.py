"""The controller's image works as the Deployment runs it: on a real API server, with nothing else to write to.

It has to tell what the promotion policy says, for which it needs the policy's expressions in the image.
"""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from dockerfile import ROOT
from image import Image, ended, free_port

from backstay_playground.demo.waiting import wait_until
from backstay_playground.playground import Playground

pytestmark = pytest.mark.component

ImageOf = Callable[[str], Image]
MINIMAL = Path(__file__).parents[1] / "good_specs" / "minimal.yaml"
SETTINGS = ROOT / "policies" / "promotion" / "settings.yaml"
SYSTEM = "backstay-system"
NAMESPACE = "image-production"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
POLICY = "/etc/backstay/policy"
PATIENCE = 90.0


class Cluster(Protocol):
    """What these tests need of the fixture `bare_cluster`."""

    playground: Playground

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="module")
def image(image_of: ImageOf) -> Image:
    return image_of("operator/Dockerfile")


@pytest.fixture(scope="module")
def installed(bare_cluster: Cluster) -> Cluster:
    """Install all of operator/config; there is nothing that would start the Deployment."""
    bare_cluster.playground.up(["gateway-types"])
    succeed(bare_cluster, "apply", "--server-side", "-k", str(ROOT / "operator" / "config"))
    succeed(bare_cluster, "wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    succeed(bare_cluster, "create", "namespace", NAMESPACE)
    return bare_cluster


@dataclass(frozen=True)
class Pod:
    """What the Deployment gives to the container: its settings, its volumes, and files to read."""

    settings: dict[str, str]
    volumes: dict[str, Path]
    secrets: dict[str, Path]
    health: str


@pytest.fixture
def pod(installed: Cluster, image: Image, tmp_path: Path) -> Pod:
    """Make of the Deployment what a kubelet would."""
    read = json.loads(
        succeed(installed, "get", "deployment/backstay-controller", f"--namespace={SYSTEM}", "--output=json")
    )
    spec = read["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    context = spec["securityContext"]
    assert image.stage.user == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert [port["containerPort"] for port in container["ports"]] == image.stage.ports
    settings = dict(yaml.safe_load((ROOT / "operator/config/manager/config.yaml").read_text())["data"])
    settings |= {each["name"]: each["value"] for each in container["env"] if "value" in each}
    api, (health, metrics) = urlsplit(installed.playground.endpoints()["kube-apiserver"]), (free_port(), free_port())
    settings |= {"POD_IP": "127.0.0.1", "BACKSTAY_HEALTH_PORT": str(health), "BACKSTAY_METRICS_PORT": str(metrics)}
    settings |= {"KUBERNETES_SERVICE_HOST": str(api.hostname), "KUBERNETES_SERVICE_PORT": str(api.port)}
    places: dict[bool, dict[str, Path]] = {True: {ACCOUNT: account(installed, tmp_path)}, False: {}}
    for mount in container["volumeMounts"]:
        place = tmp_path / mount["name"]
        place.mkdir()
        places[mount.get("readOnly", False)][mount["mountPath"]] = place
    for name, value in yaml.safe_load(SETTINGS.read_text())["data"].items():
        (places[True][POLICY] / name).write_text(value)
    return Pod(settings, volumes=places[False], secrets=places[True], health=f"http://127.0.0.1:{health}/healthz")


def account(cluster: Cluster, folder: Path) -> Path:
    """Write what every pod finds of its service account."""
    place = folder / "account"
    place.mkdir()
    token = succeed(cluster, "create", "token", "backstay-controller", f"--namespace={SYSTEM}").strip()
    (place / "token").write_text(token)
    (place / "namespace").write_text(SYSTEM)
    (place / "ca.crt").write_text(cluster.playground.layout.pki.joinpath("ca.crt").read_text())
    return place


def succeed(cluster: Cluster, *args: str, stdin: str | None = None) -> str:
    answer = cluster.kubectl(*args, stdin=stdin)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture
def registry() -> Iterator[str]:
    """Answer as MLflow does about a model of which no version has an alias."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"registered_model": {"name": "fraud-detector"}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_it_asks_the_promotion_policy_that_it_carries(
    image: Image, installed: Cluster, pod: Pod, registry: str, tmp_path: Path
) -> None:
    manifest = yaml.safe_load(MINIMAL.read_text())
    manifest["spec"]["registry"]["uri"] = registry
    succeed(installed, "apply", "--server-side", f"--namespace={NAMESPACE}", "-f", "-", stdin=json.dumps(manifest))
    before, log = image.files(), tmp_path / "log"
    argv = image.command(settings=pod.settings, volumes=pod.volumes, secrets=pod.secrets)
    with log.open("wb") as file:
        controller = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until("the policy is asked", lambda: "is not started" in message(installed), timeout=PATIENCE)
        assert httpx.get(pod.health, trust_env=False).status_code == httpx.codes.OK
    except Exception as problem:
        raise AssertionError(f"{problem}; {message(installed)!r}; {log.read_text()}") from problem
    finally:
        controller.send_signal(signal.SIGTERM)
        controller.wait(timeout=30)
    assert message(installed) == (
        "Version 7 is not started: the first step gives a new version more than 25 % of the traffic of "
        "image-production: let spec.rollout.steps begin with a smaller weight"
    )
    assert (controller.returncode, "Traceback" in log.read_text()) == (0, False), log.read_text()
    assert image.files() == before


def message(cluster: Cluster) -> str:
    found: dict[str, Any] = json.loads(
        succeed(cluster, "get", "mdep/fraud-detector", f"--namespace={NAMESPACE}", "--output=json")
    )
    return str(found.get("status", {}).get("message", ""))


def test_it_renders_with_the_kustomize_that_is_pinned(image: Image) -> None:
    done = image.run("kustomize", "version")
    pinned = (ROOT / "playground/tools/kustomize/go.mod").read_text()
    assert (done.returncode, f"kustomize/v5 {done.stdout.strip()}\n" in pinned) == (0, True), done.stdout + done.stderr


def test_without_a_cluster_it_says_what_is_missing(image: Image, tmp_path: Path) -> None:
    settings = {"HOME": "/var/lib/backstay", "POD_IP": "127.0.0.1", "BACKSTAY_METRICS_PORT": "0"}
    done = ended(image.command(settings=settings, volumes={"/var/lib/backstay": tmp_path}))
    assert (done.returncode, "run in a pod or set KUBECONFIG" in done.stderr) == (2, True), done.stderr


def test_without_the_policy_it_does_not_start(image: Image, tmp_path: Path) -> None:
    missing, state = tmp_path / "missing", tmp_path / "state"
    missing.mkdir()
    state.mkdir()
    settings = {"HOME": "/var/lib/backstay", "POD_IP": "127.0.0.1", "BACKSTAY_POLICY": POLICY}
    over = {"/opt/backstay/src/backstay/shipped/policies": missing}
    done = ended(image.command(settings=settings, secrets=over, volumes={"/var/lib/backstay": state}))
    assert (done.returncode, done.stderr) == (
        2,
        "policies/promotion/policy.yaml is not among the files of this installation; install Backstay again\n",
    )
