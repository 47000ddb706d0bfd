"""Which credentials reach which registry."""

from pathlib import Path

import pytest
import yaml
from registry_servers import Server, folder

from backstay.adapters.registry.access import RegistryAccess, parse_registry_url
from backstay.adapters.registry.aliases import Registry
from backstay.adapters.registry.errors import RegistryUnavailableError, RegistryUrlError
from backstay.adapters.registry.versions import ModelRegistry
from backstay.cli.options import registry_access
from backstay.controller.runtime.settings import Settings

ROOT = Path(__file__).parents[4]
OURS = "Bearer ours"


def use(registry: str, access: RegistryAccess) -> None:
    """Ask a registry everything that the controller asks."""
    assert Registry(registry, access).stable_version("fraud", "stable") == "7"
    Registry(registry, access).set_stable_version("fraud", "stable", "7")
    Registry(registry, access).note("fraud", "7", "tag", "text")
    assert ModelRegistry(registry, access).read("fraud", "7").identity.version == "7"


def test_the_controller_sends_credentials_to_the_configured_registry_alone(
    mlflow: Server, evil: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = folder(tmp_path / "keys", {"mlflow.url": mlflow.url, "mlflow.token": "ours\n"})
    monkeypatch.setenv("BACKSTAY_REGISTRY_CREDENTIALS", str(keys))
    access = Settings.from_environment().registries
    for server in (mlflow, evil):
        use(server.url, access)
    assert mlflow.authorizations == {OURS}
    assert evil.authorizations == {""}


def test_the_controller_without_any_configuration_sends_nothing(evil: Server) -> None:
    use(evil.url, Settings.from_environment().registries)
    assert evil.authorizations == {""}


def test_mlflows_own_variables_are_for_the_address_beside_them(
    mlflow: Server, evil: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("~/.mlflow/credentials").expanduser().unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{mlflow.url}/")
    for server in (mlflow, evil):
        use(server.url, registry_access(""))
    assert mlflow.authorizations == {"Bearer ambient"}
    assert evil.authorizations == {""}


@pytest.mark.parametrize("variable", ["", "BACKSTAY_REGISTRY"])
def test_a_person_names_the_registry_that_gets_mlflows_own_credentials(
    mlflow: Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    Path("~/.mlflow/credentials").expanduser().unlink()
    if variable:
        monkeypatch.setenv(variable, mlflow.url)
    use(mlflow.url, registry_access("" if variable else mlflow.url))
    assert mlflow.authorizations == {"Bearer ambient"}


def test_an_overlay_names_no_registry_that_gets_them(evil: Server) -> None:
    use(evil.url, registry_access(""))
    assert evil.authorizations == {""}


def test_a_user_and_password_are_sent_as_such_and_a_rotated_one_at_once(mlflow: Server, tmp_path: Path) -> None:
    keys = folder(tmp_path / "keys", {"a.url": mlflow.url, "a.username": "me", "a.password": "pw"})
    registry = Registry(mlflow.url, RegistryAccess(keys))
    registry.stable_version("fraud", "stable")
    (keys / "a.password").write_text("pw2\n")
    registry.stable_version("fraud", "stable")
    assert [authorization for _, authorization in mlflow.requests] == ["Basic bWU6cHc=", "Basic bWU6cHcy"]


def test_credentials_do_not_follow_to_another_host(mlflow: Server, evil: Server, tmp_path: Path) -> None:
    keys = folder(tmp_path / "keys", {"a.url": mlflow.url, "a.token": "ours"})
    mlflow.redirect_to = evil.url
    Registry(mlflow.url, RegistryAccess(keys)).stable_version("fraud", "stable")
    assert mlflow.authorizations == {OURS}
    assert evil.authorizations == {""}


@pytest.mark.parametrize(
    ("address", "token"),
    [
        ("http://mlflow", "host"),
        ("http://mlflow:80/", "host"),
        ("HTTP://MLflow/other", "host"),
        ("http://mlflow/team-a", "team"),
        ("http://mlflow//team-a//", "team"),
        ("http://mlflow/team-a/deeper", "team"),
        ("http://mlflow/team-ab", "host"),
        ("http://mlflow/Team-A", "host"),
        ("http://mlflow:5000", "port"),
        ("http://MLFLOW:5000/team-a", "port"),
        ("https://mlflow", None),
        ("https://mlflow:5000", None),
        ("http://mlflow:50000", None),
        ("http://mlflow:8080", None),
        ("http://mlflow.evil", None),
        ("http://mlflow.evil/team-a", None),
        ("http://evil/mlflow/team-a", None),
        ("http://evil/http://mlflow:5000", None),
        ("http://mlflow@evil", None),
        ("http://mlflow.", None),
        ("http://[::1]:5000", None),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins(tmp_path: Path, address: str, token: str | None) -> None:
    keys = folder(
        tmp_path / "keys",
        {
            "a.url": "http://mlflow",
            "a.token": "host",
            "b.url": "http://mlflow/team-a/",
            "b.token": "team",
            "c.url": "http://MLflow:5000",
            "c.token": "port",
        },
    )
    assert RegistryAccess(keys).credentials(parse_registry_url(address)).token == token


def test_what_stands_before_the_host_is_not_the_host(tmp_path: Path) -> None:
    keys = folder(tmp_path / "keys", {"a.url": "http://mlflow:5000", "a.token": "ours"})
    found = RegistryAccess(keys).credentials(parse_registry_url("http://mlflow:5000@evil:81"))
    assert (found.host, found.username, found.password, found.token) == ("http://evil:81", "mlflow", "5000", None)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "mlflow:5000",
        "http://",
        "http://mlflow:port",
        "http://mlflow:99999",
        "http://[::1",
        "http://evil\\@mlflow",
        "http://mlflow\\@evil",
        "http://mlflow\\.evil",
        "http://mlflow/team-a/../team-b",
        "http://mlflow/team-a/%2e%2E/team-b",
        "http://mlflow/team-a%2f..%2fteam-b",
        "http://mlflow/team-a/%252e%252e/team-b",
        "http://mlflow?x=/team-a",
        "http://evil#@mlflow",
        "http://mlflow /",
        "http://ml\tflow",
        "http://mlflow\n.evil",
        "http://ⓜlflow",
        "file:///etc/passwd",
        "sqlite:////var/lib/mlflow.db",
        "databricks",
        "databricks-uc://profile",
        "uc:http://evil",
        "ftp://mlflow",
    ],
)
def test_an_address_that_can_be_misread_is_not_connected(address: str) -> None:
    for client in (Registry, ModelRegistry):
        with pytest.raises(
            RegistryUrlError, match="is not the address of a registry that Backstay asks: write the http"
        ):
            client(address, RegistryAccess())


def test_a_refused_address_does_not_show_its_password() -> None:
    with pytest.raises(RegistryUrlError) as problem:
        parse_registry_url("http://me:secret@mlflow/%2e")
    assert "secret" not in str(problem.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_asks_for_credentials_that_are_not_configured_says_where_to_add_them(
    mlflow: Server, status: int
) -> None:
    mlflow.status = status
    for ask in (
        lambda: Registry(mlflow.url, RegistryAccess()).stable_version("fraud", "stable"),
        lambda: ModelRegistry(mlflow.url, RegistryAccess()).read("fraud", "7"),
    ):
        with pytest.raises(
            RegistryUnavailableError,
            match=rf"^The registry {mlflow.url} asks for credentials, and none are configured for this address: add it "
            "with a token to BACKSTAY_REGISTRY_CREDENTIALS .*Secret backstay-registry-credentials.*MLFLOW_TRACKING_URI",
        ):
            ask()


def test_a_registry_that_a_person_names_without_any_credentials_says_the_same(
    mlflow: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("~/.mlflow/credentials").expanduser().unlink()
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    mlflow.status = 401
    with pytest.raises(RegistryUnavailableError, match="asks for credentials, and none are configured"):
        ModelRegistry(mlflow.url, registry_access(mlflow.url)).read("fraud", "7")


def test_the_controller_is_deployed_with_the_folder_of_a_secret_that_need_not_exist() -> None:
    documents = yaml.safe_load_all((ROOT / "operator" / "config" / "manager" / "controller.yaml").read_text())
    pod = next(document for document in documents if document["kind"] == "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == values["BACKSTAY_REGISTRY_CREDENTIALS"])
    (volume,) = (one for one in pod["volumes"] if one["name"] == mount["name"])
    assert volume["secret"] == {"secretName": "backstay-registry-credentials", "optional": True, "defaultMode": 0o440}


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses_the_configured_credentials_says_nothing_of_the_version(
    mlflow: Server, tmp_path: Path, status: int
) -> None:
    mlflow.status = status
    access = RegistryAccess(folder(tmp_path / "keys", {"a.url": mlflow.url, "a.token": "ours"}))
    with pytest.raises(RegistryUnavailableError, match=rf"does not answer for model fraud: .*{status}") as problem:
        Registry(mlflow.url, access).stable_version("fraud", "stable")
    assert "ours" not in str(problem.value)
    # A failed gate could take a good version out of Git because a token has expired.
    with pytest.raises(RegistryUnavailableError, match="does not answer for version 7 of fraud") as problem:
        ModelRegistry(mlflow.url, access).read("fraud", "7")
    assert "ours" not in str(problem.value)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"a.token": "xyz\nzy"}, "is not one line of plain characters"),
        ({"a.token": "xyzzy“"}, "is not one line of plain characters"),
        ({}, "has no token; add a.token, or a.username and a.password, to the Secret"),
        ({"a.username": "xyzzy"}, "has no token; add a.token"),
    ],
)
def test_a_credential_that_cannot_be_used_is_named_and_not_shown(
    mlflow: Server, tmp_path: Path, keys: dict[str, str], sentence: str
) -> None:
    access = RegistryAccess(folder(tmp_path / "keys", {"a.url": mlflow.url, **keys}))
    for ask in (
        lambda: Registry(mlflow.url, access).stable_version("fraud", "stable"),
        lambda: ModelRegistry(mlflow.url, access).read("fraud", "7"),
    ):
        with pytest.raises(RegistryUnavailableError, match=sentence) as problem:
            ask()
        assert "zy" not in str(problem.value)
    assert mlflow.requests == []


def test_a_prefix_that_is_no_url_is_named(mlflow: Server, tmp_path: Path) -> None:
    access = RegistryAccess(folder(tmp_path / "keys", {"a.url": "mlflow:5000", "a.token": "ours"}))
    with pytest.raises(RegistryUnavailableError, match="The registry credential a is unusable: 'mlflow:5000' is not"):
        Registry(mlflow.url, access).stable_version("fraud", "stable")
