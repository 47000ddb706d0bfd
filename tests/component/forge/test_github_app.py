"""A GitHub App instead of a token: for the API and for Git."""

import logging
import secrets
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from servers import NAME, OWNER, AppServer, serving

from backstay.adapters.forge import ForgeRefused
from backstay.adapters.forge.choose import forge_of
from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.secrets import CredentialError

pytestmark = pytest.mark.component

HOUR = 3600.0


def pem(key: RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def public(key: RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def secret(folder: Path, url: str, app: str, private: str) -> Credentials:
    folder.mkdir(exist_ok=True)
    for name, value in {"url": url, "forge": "github", "appID": app, "privateKey": private}.items():
        (folder / f"one.{name}").write_text(value)
    return Credentials(folder)


def an_app() -> str:
    return str(secrets.randbelow(10**9))


def test_the_app_gets_a_token_for_the_repository_and_git_gets_the_same(key: RSAPrivateKey, tmp_path: Path) -> None:
    app = an_app()
    with serving(AppServer(public(key), app=app, lifetime=HOUR)) as server:
        assert isinstance(server, AppServer)
        credentials = secret(tmp_path / "secret", server.url, app, pem(key))
        url = f"{server.url}/{OWNER}/{NAME}.git"
        assert forge_of(url, credentials).find("main") is None
        found = credentials.find(url)
        assert found is not None
        assert (found.token(), len(server.given)) == (server.given[0], 1)
        helper = found.helper().removeprefix("!")
        said = subprocess.run(["sh", "-c", f"{helper} get"], check=True, capture_output=True, text=True).stdout
        assert said == f"username=x-access-token\npassword={server.given[0]}\n"
        assert server.given[0] not in found.helper()
        assert stat.S_IMODE(found.password.stat().st_mode) == 0o600
        assert stat.S_IMODE(found.password.parent.stat().st_mode) == 0o700
        assert server.given[0] in found.secrets()
        assert server.wrong_use == []


def test_a_token_that_ends_soon_is_replaced(key: RSAPrivateKey, tmp_path: Path) -> None:
    app = an_app()
    with serving(AppServer(public(key), app=app, lifetime=60.0)) as server:
        assert isinstance(server, AppServer)
        credentials = secret(tmp_path / "secret", server.url, app, pem(key))
        url = f"{server.url}/{OWNER}/{NAME}.git"
        first, second = credentials.find(url), credentials.find(url)
        assert first is not None
        assert second is not None
        assert len(server.given) == 2
        # The file is one and the same, so that what git was told before is right as well.
        assert first.password == second.password
        assert second.token() == server.given[1]


def test_a_new_key_needs_no_restart(key: RSAPrivateKey, tmp_path: Path) -> None:
    app, other = an_app(), generate_private_key(65537, 2048)
    with serving(AppServer(public(key), app=app, lifetime=HOUR)) as server:
        assert isinstance(server, AppServer)
        credentials = secret(tmp_path / "secret", server.url, app, pem(key))
        url = f"{server.url}/{OWNER}/{NAME}.git"
        credentials.find(url)
        server.public_key = public(other)
        (tmp_path / "secret" / "one.privateKey").write_text(pem(other))
        found = credentials.find(url)
        assert found is not None
        assert found.token() == server.given[1]


@pytest.mark.parametrize("problem", ["no key", "another key", "another app"])
def test_what_is_wrong_is_one_sentence_without_the_key(
    key: RSAPrivateKey, tmp_path: Path, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = an_app()
    private = {"no key": "nonsense", "another key": pem(generate_private_key(65537, 2048))}.get(problem, pem(key))
    with serving(AppServer(public(key), app=app, lifetime=HOUR)) as server:
        credentials = secret(tmp_path / "secret", server.url, "1" if problem == "another app" else app, private)
        with pytest.raises((CredentialError, ForgeRefused)) as caught:
            forge_of(f"{server.url}/{OWNER}/{NAME}.git", credentials)
    said = str(caught.value)
    assert ("privateKey" in said) if problem == "no key" else ("status 401" in said), said
    for line in private.splitlines():
        assert line not in said
        assert line not in caplog.text
