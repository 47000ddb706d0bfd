"""Addresses of MLflow servers, and the credentials that each of them is given.

MLflow's client sends what is set in its environment to every server that it is pointed at. An address comes from a
ModelDeployment or from an overlay, so its author is not always somebody who may have the credentials. Here a server
gets the credentials of the longest configured URL prefix that covers its address, and without one it gets none.
"""

import os
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from backstay.adapters.git_url import without_user
from backstay.adapters.registry.errors import RegistryUrlError
from backstay.adapters.secrets import CredentialError, best_fit, covers, secret_text

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from mlflow.store.model_registry.rest_store import RestStore as ModelStore
    from mlflow.store.tracking.rest_store import RestStore as RunStore
    from mlflow.utils.rest_utils import MlflowHostCreds

FOLDER_VARIABLE = "BACKSTAY_REGISTRY_CREDENTIALS"
_OWN_VARIABLE = "MLFLOW_TRACKING_URI"
# What is set in the environment already wins. MLflow tells its makers of its use unless it is told not to.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_USUAL_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class RegistryUrl:
    """An MLflow server's address.

    ``text`` is equal for two ways of writing one address, and is what the server is connected by; it has no user
    information. ``username`` and ``password`` are those that the address itself carried.
    """

    text: str
    username: str = ""
    password: str = field(default="", repr=False)


def parse_registry_url(url: str) -> RegistryUrl:
    """Parse an http or https URL; the case of the host, the usual port and slashes at the end make no difference.

    What two programs may read in two ways is refused: the host that is compared must be the host that is connected.

    Raises:
        RegistryUrlError: it is no such URL, or its path is not written out plainly.
    """
    refusal = RegistryUrlError(
        f"{without_user(url)!r} is not the address of a registry that Backstay asks: write the http or https URL of an "
        "MLflow server plainly, such as http://mlflow.mlops:5000"
    )
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError:
        raise refusal from None
    has_odd_path = "%" in parts.path or bool({".", ".."} & set(parts.path.split("/")))
    if parts.scheme not in _USUAL_PORTS or not _HOST.fullmatch(host) or has_odd_path:
        raise refusal
    if not url.isprintable() or set(url) & set(" \\?#"):
        raise refusal
    place = f"[{host}]" if ":" in host else host
    place += "" if port in {None, _USUAL_PORTS[parts.scheme]} else f":{port}"
    path = "".join(f"/{part}" for part in parts.path.split("/") if part)
    return RegistryUrl(f"{parts.scheme}://{place}{path}", unquote(parts.username or ""), unquote(parts.password or ""))


@dataclass(frozen=True, slots=True)
class Connection:
    """MLflow's clients of one server: of its registered models, and of its runs."""

    server: RegistryUrl
    models: "ModelStore"
    runs: "RunStore"


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """The credentials that this process has for MLflow servers, and nothing for any other server.

    ``folder`` holds ``<name>.url`` (a URL prefix) and ``<name>.token``, or ``<name>.username`` and ``<name>.password``,
    for each credential; it is read again at each request, so a rotated token needs no restart. ``own`` are addresses
    that the credentials in MLflow's own variables and files are for; these count where nothing of the folder fits.
    """

    folder: Path | None = None
    own: tuple[str, ...] = ()

    @staticmethod
    def from_environment(*named: str) -> "RegistryAccess":
        """Read which folder there is, and that MLflow's own variables are for MLFLOW_TRACKING_URI.

        Args:
            named: further addresses that the person who started this process has named, which are trusted as well.
        """
        folder = os.environ.get(FOLDER_VARIABLE, "")
        own = (*named, os.environ.get(_OWN_VARIABLE, ""))
        return RegistryAccess(Path(folder) if folder else None, tuple(filter(None, own)))

    def connect(self, uri: str) -> "Connection":
        """Return MLflow's clients of a server; nothing is asked yet.

        MLflow is imported at the first use: it is slow to import, and most starts of the controller need it not.

        Raises:
            RegistryUrlError: the address is not one of an MLflow server.
        """
        server = parse_registry_url(uri)
        _prepare_mlflow()
        from mlflow.store.model_registry.rest_store import RestStore as ModelStore  # noqa: PLC0415 - see above
        from mlflow.store.tracking.rest_store import RestStore as RunStore  # noqa: PLC0415 - see above

        asked = partial(self.credentials, server)
        return Connection(server, ModelStore(asked), RunStore(asked))

    def credentials(self, server: RegistryUrl) -> "MlflowHostCreds":
        """Return what MLflow's client connects to a server with, as the files are now.

        Raises:
            CredentialError: the credential that fits cannot be used.
        """
        _prepare_mlflow()
        from mlflow.utils.credentials import get_default_host_creds  # noqa: PLC0415 - slow to import
        from mlflow.utils.rest_utils import MlflowHostCreds  # noqa: PLC0415 - as above

        # Whether and by which authorities certificates are checked is no secret, and holds for all servers.
        ambient: MlflowHostCreds = get_default_host_creds(server.text)
        found = self._configured(server)
        if found is None and self._is_own(server):
            used = ambient
        else:
            username, password, token = found or ("", "", "")
            used = MlflowHostCreds(
                host=server.text,
                username=username or None,
                password=password or None,
                token=token or None,
                ignore_tls_verification=ambient.ignore_tls_verification,
                server_cert_path=ambient.server_cert_path,
            )
        if used.token and not (used.token.isascii() and used.token.isprintable()):
            # The HTTP library would put the header that it refuses into its message.
            raise CredentialError(f"The token for the registry {server.text} is not one line of plain characters")
        return used

    def hint(self, server: RegistryUrl, problem: "MlflowException") -> str:
        """Say that a server asks for credentials where none are configured for it; empty for any other problem."""
        if problem.get_http_status_code() not in _REFUSED:
            return ""
        try:
            sent = self.credentials(server)
        except CredentialError:  # the files have changed since the request
            return ""
        if sent.token or (sent.username and sent.password) or sent.auth or sent.aws_sigv4 or sent.client_cert_path:
            return ""
        return (
            f"The registry {server.text} asks for credentials, and none are configured for this address: add it with a "
            f"token to {FOLDER_VARIABLE} (for the controller the Secret backstay-registry-credentials), or set "
            f"{_OWN_VARIABLE} to it where MLflow's own variables hold its token"
        )

    def _is_own(self, server: RegistryUrl) -> bool:
        return any(covers(own, server.text) for own in map(_text_of, self.own) if own)

    def _configured(self, server: RegistryUrl) -> tuple[str, str, str] | None:
        """Return user, password and token for a server; None where nothing of the folder fits."""
        if server.username and server.password:
            return server.username, server.password, ""
        found = best_fit(self.folder, server.text, _normalised, "registry") if self.folder else None
        if found is None:
            return None
        file, prefix = found
        token, username, password = (
            secret_text(file.with_suffix(f".{key}")) for key in ("token", "username", "password")
        )
        if token:
            return "", "", token
        if not (username and password):
            raise CredentialError(
                f"The registry credential for {prefix} has no token; add {file.stem}.token, or {file.stem}.username "
                f"and {file.stem}.password, to the Secret"
            )
        return username, password, ""


def _prepare_mlflow() -> None:
    """Set what MLflow reads when it is imported and at each request."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # The HTTP library would take the user and password of ~/.netrc for any server, in place of ours.
    os.environ["NETRC"] = os.devnull


def _normalised(url: str) -> str:
    return parse_registry_url(url).text


def _text_of(url: str) -> str:
    """Return the normalised form of an address; empty for one that is no server's, such as a database."""
    try:
        return _normalised(url)
    except RegistryUrlError:
        return ""
