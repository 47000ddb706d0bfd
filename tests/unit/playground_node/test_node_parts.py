"""The small parts: addresses, hosts, volumes, launching, binding, status, restarts."""

import json
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from backstay_playground.node.addresses import Addresses, AddressesExhaustedError
from backstay_playground.node.environment import ImageError, Objects
from backstay_playground.node.hosts import render, write_in_place
from backstay_playground.node.launch import Place, Surroundings, command_of_image, prepare
from backstay_playground.node.proxy import routes
from backstay_playground.node.scheduler import is_pending, misfit
from backstay_playground.node.states import Terminated, back_off, should_restart
from backstay_playground.node.status import is_status_reported, with_times
from backstay_playground.node.volumes import File, write_atomically


def service(name: str, address: str, **spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    return {
        "metadata": {"name": name, "namespace": "n", "annotations": annotations},
        "spec": {"clusterIP": address, "ports": [{"port": 80}], **spec},
    }


# -- addresses


def test_an_address_comes_back_only_after_all_others(tmp_path: Path) -> None:
    cursor = tmp_path / "next"
    addresses = Addresses(IPv4Network("127.97.0.0/29"), cursor=cursor)
    first = [addresses.allocate() for _ in range(3)]
    assert first == ["127.97.0.1", "127.97.0.2", "127.97.0.3"]
    addresses.release("127.97.0.1")
    assert addresses.allocate() == "127.97.0.4"
    # A node that starts again goes on where it was, around what is taken.
    later = Addresses(IPv4Network("127.97.0.0/29"), cursor=cursor)
    later.take("127.97.0.5")
    later.take("127.97.0.2")
    assert [later.allocate() for _ in range(3)] == ["127.97.0.6", "127.97.0.1", "127.97.0.3"]
    later.allocate()
    with pytest.raises(AddressesExhaustedError, match=r"127\.97\.0\.0/29"):
        later.allocate()


# -- hosts


def test_hosts_names_every_service_with_an_address(tmp_path: Path) -> None:
    services = [service("mlflow", "127.96.0.5"), service("headless", "None"), service("a", "127.96.0.6")]
    assert render(services, hostname="box").splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "127.0.0.1 box",
        "127.96.0.6 a.n a.n.svc a.n.svc.cluster.local",
        "127.96.0.5 mlflow.n mlflow.n.svc mlflow.n.svc.cluster.local",
    ]
    hosts = tmp_path / "hosts"
    write_in_place(hosts, services)
    inode = hosts.stat().st_ino
    write_in_place(hosts, [])
    assert hosts.stat().st_ino == inode
    assert "mlflow" not in hosts.read_text()


# -- volumes


def test_a_volume_changes_as_a_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path, {"a": File(b"1", 0o644), "deep/b": File(b"2", 0o400)})
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "deep" / "b").stat().st_mode & 0o777 == 0o400
    version = (tmp_path / "..data").readlink()
    write_atomically(tmp_path, {"a": File(b"1", 0o644), "deep/b": File(b"2", 0o400)})
    assert (tmp_path / "..data").readlink() == version
    write_atomically(tmp_path, {"c": File(b"3", 0o644)})
    visible = {entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..")}
    assert visible == {"c"}
    assert len(list(tmp_path.iterdir())) == 3
    write_atomically(tmp_path, {})
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..")] == []


# -- launching


def test_images_stand_for_commands(tmp_path: Path) -> None:
    images = tmp_path / "images.json"
    images.write_text(json.dumps({"web:1": ["python", "-m", "web"]}))
    assert command_of_image(images, "web:1") == ["python", "-m", "web"]
    with pytest.raises(ImageError, match=r'image "web:2" is not in .*images\.json: add it there'):
        command_of_image(images, "web:2")
    with pytest.raises(ImageError, match="cannot read the images file"):
        command_of_image(tmp_path / "none", "web:1")


def test_a_launch_puts_command_arguments_and_environment_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/production")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    images = tmp_path / "images.json"
    images.write_text(json.dumps({"web:1": ["web"]}))
    node = Surroundings(images, tmp_path / "hosts", tmp_path / "logs", Objects({}, {}), ("127.0.0.1", 6443))
    place = Place("127.97.0.1", tmp_path / "home", {"/etc/hosts": tmp_path / "hosts"})
    pod = {"metadata": {"name": "p", "namespace": "n"}, "spec": {}}
    container = {"name": "c", "image": "web:1", "args": ["--as", "$(HOSTNAME)"], "workingDir": "/data"}
    launch = prepare(container, pod, place=place, node=node)
    assert list(launch.argv[-5:]) == ["env", "--chdir=/data", "web", "--as", "p"]
    assert launch.log == tmp_path / "logs" / "n_p_c.log"
    assert launch.env["HOME"] == str(tmp_path / "home")
    assert (launch.env["KUBERNETES_SERVICE_HOST"], launch.env["KUBERNETES_SERVICE_PORT"]) == ("127.0.0.1", "6443")
    assert not {"KUBECONFIG", "PYTHONPATH"} & launch.env.keys()
    command = prepare({**container, "command": ["run", "$(HOSTNAME)"]}, pod, place=place, node=node)
    assert list(command.argv[-4:]) == ["run", "p", "--as", "p"]


# -- binding


@pytest.mark.parametrize(
    ("spec", "pending"),
    [
        ({}, True),
        ({"nodeName": "here"}, False),
        ({"schedulerName": "other"}, False),
        ({"schedulingGates": [{"name": "wait"}]}, False),
    ],
)
def test_which_pods_wait_for_a_node(spec: dict[str, Any], *, pending: bool) -> None:
    assert is_pending({"metadata": {}, "spec": spec}) is pending
    assert not is_pending({"metadata": {"deletionTimestamp": "now"}, "spec": spec})


def test_node_selector() -> None:
    pod = {"spec": {"nodeSelector": {"disk": "ssd", "zone": "a"}}}
    assert misfit(pod, {"disk": "ssd", "zone": "a", "more": "x"}) == ""
    assert "nodeSelector zone=a." in misfit(pod, {"disk": "ssd", "zone": "b"})
    assert misfit({"spec": {}}, {}) == ""


# -- services


def test_routes_of_a_service() -> None:
    annotations = {"playground.backstay.dev/target": "127.0.0.1:5000"}
    [(address, route)] = routes(service("s", "127.96.0.5", annotations=annotations)).items()
    assert address == ("127.96.0.5", 80)
    assert list(route.targets([])) == [("127.0.0.1", 5000)]
    assert routes(service("s", "127.96.0.5")) == {}
    assert routes(service("s", "None", selector={"app": "s"})) == {}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 80, "targetPort": "http"}]
    [(address, route)] = routes(service("s", "127.96.0.5", selector={"app": "s"}, ports=ports)).items()
    assert (address, route.target_port, route.fixed) == (("127.96.0.5", 80), "http", ())


# -- status and restarts


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    known = [
        {"type": "Ready", "status": "True", "lastTransitionTime": "then"},
        {"type": "Initialized", "status": "False", "lastTransitionTime": "then"},
    ]
    wanted = [
        {"type": "Ready", "status": "True"},
        {"type": "Initialized", "status": "True"},
        {"type": "New", "status": "False"},
    ]
    times = {each["type"]: each["lastTransitionTime"] for each in with_times(wanted, known, now="now")}
    assert times == {"Ready": "then", "Initialized": "now", "New": "now"}


def test_a_report_that_the_server_has_is_not_repeated() -> None:
    wanted = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "message": ""}],
        "containerStatuses": [{"name": "a", "lastState": {}}],
        "initContainerStatuses": [],
    }
    reported = {
        "phase": "Running",
        "qosClass": "BestEffort",
        "conditions": [{"type": "Other", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "a"}],
    }
    assert is_status_reported(wanted, reported)
    assert not is_status_reported({**wanted, "phase": "Failed"}, reported)
    assert not is_status_reported({**wanted, "containerStatuses": []}, reported)
    assert not is_status_reported({**wanted, "conditions": [{"type": "Ready", "status": "False"}]}, reported)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 10), (10**6, 10)])
def test_back_off_doubles_up_to_ten_seconds(failures: int, seconds: float) -> None:
    assert back_off(failures) == seconds


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: str, code: int, *, again: bool) -> None:
    assert should_restart(policy, Terminated(code, "", "", "", "")) is again
