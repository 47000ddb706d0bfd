"""Keys, certificates and tokens of one playground: made once, kept in its state folder, worth nothing elsewhere."""

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from backstay_playground.layout import write_private

_LIFETIME = timedelta(days=365)
# Names under which the API server is called: by components, from pods, and through its Service.
_HOSTS = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_ADDRESSES = ("127.0.0.1", "127.96.0.1")


@dataclass(frozen=True)
class Pki:
    """The files that the API server and its clients need."""

    folder: Path

    @property
    def authority(self) -> Path:
        """Return the certificate of the authority."""
        return self.folder / "ca.crt"

    @property
    def server_certificate(self) -> Path:
        """Return the API server's certificate."""
        return self.folder / "apiserver.crt"

    @property
    def server_key(self) -> Path:
        """Return the API server's key."""
        return self.folder / "apiserver.key"

    @property
    def accounts_key(self) -> Path:
        """Return the key that signs service account tokens."""
        return self.folder / "service-accounts.key"

    @property
    def tokens(self) -> Path:
        """Return the API server's file of fixed bearer tokens."""
        return self.folder / "tokens.csv"

    def create(self) -> None:
        """Make everything that is not there yet; what is there is kept, as running components use it."""
        if not self.accounts_key.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            write_private(self.accounts_key, _pem(key))
        if not self.tokens.exists():
            write_private(
                self.tokens, f'{secrets.token_urlsafe(32)},playground-admin,playground-admin,"system:masters"\n'
            )
        if not self.server_certificate.exists():
            self._create_certificates()

    def admin_token(self) -> str:
        """Return the administrator's bearer token."""
        return self.tokens.read_text(encoding="utf-8").partition(",")[0]

    def _create_certificates(self) -> None:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        issuer = _name("backstay-playground-ca")
        authority = (
            _builder(issuer, issuer, authority_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(authority_key, hashes.SHA256())
        )
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in _HOSTS]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
        server_key = ec.generate_private_key(ec.SECP256R1())
        server = (
            _builder(_name("kube-apiserver"), issuer, server_key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        write_private(self.authority, authority.public_bytes(serialization.Encoding.PEM).decode())
        write_private(self.server_key, _pem(server_key))
        # Last, because its presence says that all are there.
        write_private(self.server_certificate, server.public_bytes(serialization.Encoding.PEM).decode())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def kubeconfig(*, server: str, authority: Path, user: str, token: str) -> str:
    """Return the text of a kubeconfig whose one context is named `playground`."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "playground", "cluster": {"server": server, "certificate-authority": str(authority)}}
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "playground", "context": {"cluster": "playground", "user": user}}],
            "current-context": "playground",
        },
        sort_keys=False,
    )
