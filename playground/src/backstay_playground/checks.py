"""What it takes to call a component ready: small questions over loopback, answered yes or no."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Http:
    """Ready when `url` answers 200; `authority` is the certificate to trust, needed for https only.

    Proxies in the environment are not asked: they are for the world outside, never for loopback.
    """

    url: str
    authority: Path | None = None

    def __call__(self) -> bool:
        """Ask once."""
        verify = ssl.create_default_context(cafile=self.authority) if self.authority else False
        try:
            with httpx.Client(verify=verify, trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
                return client.get(self.url).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


@dataclass(frozen=True)
class Gateway:
    """Ready when the control plane's probe at `probe` answers 200, and the data plane answers `url` in any way.

    The control plane alone is not enough: it neither fails nor starts Envoy again when Envoy has ended.
    """

    probe: str
    url: str

    def __call__(self) -> bool:
        """Ask once."""
        if not Http(self.probe)():
            return False
        try:
            httpx.get(self.url, trust_env=False, timeout=_TIMEOUT_SECONDS)
        except httpx.HTTPError:
            return False
        return True


@dataclass(frozen=True)
class Redis:
    """Ready when a Redis answers PING."""

    port: int

    def __call__(self) -> bool:
        """Ask once."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT_SECONDS) as connection:
                connection.sendall(b"*1\r\n$4\r\nPING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


Check = Callable[[], bool]
