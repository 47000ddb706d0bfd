"""The pods' own loopback addresses: unique, and used again only after all others had their turn."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from backstay_playground.layout import write_private


class AddressesExhaustedError(Exception):
    """Every address of the pod network is taken."""


class Addresses:
    """Addresses of one network; a cursor on disk keeps a restarted node from handing out a fresh one again."""

    def __init__(self, network: IPv4Network, *, cursor: Path) -> None:
        self._network = network
        self._file = cursor
        self._taken: set[str] = set()
        self._next = int(cursor.read_text(encoding="ascii")) if cursor.exists() else 1

    def take(self, address: str) -> None:
        """Mark an address that a running pod already has."""
        self._taken.add(address)

    def allocate(self) -> str:
        """Return a free address.

        Raises:
            AddressesExhaustedError: there is none.
        """
        for offset in self._offsets():
            address = str(IPv4Address(int(self._network.network_address) + offset))
            if address not in self._taken:
                self._taken.add(address)
                self._next = offset + 1
                write_private(self._file, str(self._next))
                return address
        raise AddressesExhaustedError(f"All addresses of the pod network {self._network} are in use: delete some pods.")

    def release(self, address: str) -> None:
        """Give an address back."""
        self._taken.discard(address)

    def _offsets(self) -> Iterable[int]:
        # Neither the network's own address nor its broadcast address.
        count = self._network.num_addresses - 2
        return (1 + (self._next - 1 + step) % count for step in range(count))
