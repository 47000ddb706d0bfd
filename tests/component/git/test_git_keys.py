"""Signed commits and SSH, with real keys that the tests make: these need ssh-keygen, ssh and gpg on the machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.component.git.bare import Open, Remote, once

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git.command import GitRefused
from backstay.adapters.git.keys import ssh_command
from backstay.adapters.gitops.changes import Proposed
from backstay.adapters.gitops.outcomes import Committed, Refused
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.messages.rollback_commit import RollbackRequest

pytestmark = pytest.mark.component

RequestFor = Callable[..., RollbackRequest]
Gpg = Callable[..., bytes]
Opened = Callable[..., Repository]
MAIL = "backstay@localhost"
LOCK = "12345"


def run(*command: str, stdin: bytes = b"", **environment: str) -> bytes:
    return subprocess.run(
        command, input=stdin, env={**os.environ, **environment}, check=True, capture_output=True
    ).stdout


class Secret:
    """A mounted Secret: files that everybody may read."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.put(url=url)

    def put(self, **parts: str | bytes | None) -> None:
        for key, value in parts.items():
            file = self.folder / f"models.{key}"
            if value is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(value.encode() if isinstance(value, str) else value)
                file.chmod(0o644)

    @property
    def beside(self) -> Path:
        """The test's folder."""
        return self.folder.parent

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.folder)


@pytest.fixture
def secret(remote: Remote, tmp_path: Path) -> Secret:
    return Secret(tmp_path / "secret", remote.url)


@pytest.fixture
def opened(remote: Remote, secret: Secret, open_repository: Open) -> Opened:
    """Open the repository with the Secret, in the folder ``work``."""
    return lambda folder="work": open_repository(remote, folder, credentials=secret.credentials)


def ssh_key(folder: Path, *, passphrase: str = "", name: str = "key") -> tuple[bytes, str]:
    """Make a key and return its private and its public part."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", MAIL, "-f", str(folder / name))
    private, public = (folder / name).read_bytes(), (folder / f"{name}.pub").read_text()
    (folder / name).unlink()
    return private, public


@pytest.fixture
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    """A person's GnuPG."""
    home = tmp_path_factory.getbasetemp().parent / f"g{os.getpid()}"
    home.mkdir(mode=0o700)
    (home / "gpg-agent.conf").write_text("s2k-count 65536\n")  # measuring a better one takes seconds

    def gpg(*arguments: str) -> bytes:
        return run("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments, GNUPGHOME=str(home))

    yield gpg
    run("gpgconf", "--kill", "all", GNUPGHOME=str(home))
    shutil.rmtree(home, ignore_errors=True)  # the agent removes its sockets at the same time


def pgp_key(gpg: Gpg, *, passphrase: str = "") -> bytes:
    gpg("--passphrase", passphrase, "--quick-generate-key", f"Backstay <{MAIL}>", "ed25519", "sign", "never")
    return gpg("--passphrase", passphrase, "--armor", "--export-secret-keys")


def verified_by_ssh(remote: Remote, public: str, tmp_path: Path, commit: str = "main") -> str:
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{MAIL} {public}")
    done = subprocess.run(
        ["git", "-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", "--raw", commit],
        cwd=remote.bare,
        capture_output=True,
        check=False,
    )
    return done.stderr.decode() if done.returncode == 0 else ""


@dataclass(frozen=True)
class SignedBy:
    """An OpenPGP key in the Secret, and the person's GnuPG that knows it."""

    remote: Remote
    secret: Secret
    home: Path

    def verify(self, commit: str) -> None:
        run("git", "-C", str(self.remote.bare), "verify-commit", commit, GNUPGHOME=str(self.home))

    def agents(self) -> list[str]:
        """List the agents that work for Backstay: here, or in the folder for temporary files."""
        processes = run("ps", "-eo", "args").decode().splitlines()
        places = (f"--homedir {self.secret.beside}/", f"--homedir {self.home}/backstay-")
        return [line for line in processes if "gpg-agent" in line and any(place in line for place in places)]


@pytest.fixture
def signed(remote: Remote, secret: Secret, gnupg: Gpg, monkeypatch: pytest.MonkeyPatch) -> SignedBy:
    secret.put(signingKey=pgp_key(gnupg), signingFormat="openpgp")
    home = gnupg("--version").decode().partition("Home: ")[2].splitlines()[0]
    monkeypatch.setattr("tempfile.tempdir", home)
    return SignedBy(remote, secret, Path(home))


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith("keys-")]


def test_commits_are_signed_with_an_ssh_key_and_with_a_new_one_at_once(
    remote: Remote, opened: Opened, request_for: RequestFor, secret: Secret
) -> None:
    private, public = ssh_key(secret.beside)
    secret.put(signingKey=private.replace(b"\n", b"\r\n").rstrip(), signingFormat="ssh\n")
    repository = opened()
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert f'Good "git" signature for {MAIL}' in verified_by_ssh(remote, public, secret.beside)

    remote.commit({"applications/fraud-detector/overlays/production/model-version.yaml": remote.text("7")})
    other, other_public = ssh_key(secret.beside, name="other")
    secret.put(signingKey=other)
    proposed = repository.propose(request_for(rollback_id="second"), branch="backstay/second")
    assert isinstance(proposed, Proposed)
    assert not verified_by_ssh(remote, public, secret.beside, proposed.commit)
    assert verified_by_ssh(remote, other_public, secret.beside, proposed.commit)

    [folder] = left(secret.beside / "work")
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "signing")] == [0o700, 0o600]
    repository.close()
    assert left(secret.beside / "work") == []


def test_signed_commits_that_lose_a_race_are_signed_again(
    remote: Remote, open_repository: Open, request_for: RequestFor, secret: Secret
) -> None:
    private, public = ssh_key(secret.beside)
    secret.put(signingKey=private, signingFormat="ssh")
    race = once(lambda: remote.commit({"README.md": "Other\n"}, "a person"), "before:push")
    repository = open_repository(remote, credentials=secret.credentials, checkpoint=race)
    other = {"applications/churn/model-version.yaml": remote.text("7", name="churn")}
    remote.commit(other)
    churn = {"name": "churn", "good": remote.identity("6", name="churn"), "bad": remote.identity("7", name="churn")}
    second = request_for(rollback_id="churn", path="applications/churn", **churn)
    outcomes = repository.rollback([request_for(), second])
    assert [type(outcome) for outcome in outcomes] == [Committed, Committed]
    assert remote.git("log", "-3", "--format=%s").splitlines()[2] == "a person"
    for commit in ("main", "main^"):
        assert verified_by_ssh(remote, public, secret.beside, commit)


def test_keys_that_a_killed_process_has_left_are_removed(opened: Opened, secret: Secret) -> None:
    key = secret.beside / "work" / "keys-left" / "key"
    key.parent.mkdir(parents=True)
    key.touch()
    opened().fetch()
    assert not key.parent.exists()


@pytest.mark.parametrize("name", ["work", "w" * 80])
def test_commits_are_signed_with_an_openpgp_key(
    opened: Opened, request_for: RequestFor, signed: SignedBy, name: str
) -> None:
    # GnuPG's sockets need a short path, so a long work folder makes it use the one for temporary files.
    repository = opened(name)
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Committed)
    signed.verify(outcome.commit)
    assert signed.agents()
    repository.close()
    deadline = time.monotonic() + 10
    while signed.agents():
        assert time.monotonic() < deadline
    assert left(signed.secret.beside) == []
    # Nothing that signing started holds the work folder's lock.
    opened(name).fetch()


@pytest.mark.parametrize(
    ("unfit", "says"),
    [
        (("ssh", b"no key"), "models.signingKey is no private SSH key, or has a passphrase"),
        (("ssh", "locked"), "models.signingKey is no private SSH key, or has a passphrase"),
        (("openpgp", b"no key"), "models.signingKey is no private OpenPGP key"),
        (
            ("gpg", b"no key"),
            "models.signingFormat is 'gpg', so commits cannot be signed; add it to the Secret as one of",
        ),
        ((None, b"no key"), "models.signingFormat is absent"),
    ],
)
def test_a_key_that_cannot_sign_is_named_and_nothing_is_pushed(
    opened: Opened, request_for: RequestFor, secret: Secret, unfit: tuple[str | None, bytes | str], says: str
) -> None:
    form, key = unfit
    secret.put(signingFormat=form, signingKey=ssh_key(secret.beside, passphrase=LOCK)[0] if key == "locked" else key)
    repository = opened()
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert says in outcome.reason
    assert not outcome.protected


def test_an_openpgp_key_with_a_passphrase_is_named(
    opened: Opened, request_for: RequestFor, secret: Secret, gnupg: Gpg
) -> None:
    secret.put(signingFormat="openpgp", signingKey=pgp_key(gnupg, passphrase=LOCK))
    [outcome] = opened().rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert "has a passphrase, has expired, or may not sign" in outcome.reason


@pytest.mark.parametrize("missing", [("ssh", "ssh-keygen"), ("openpgp", "gpg")])
def test_a_machine_without_the_program_is_told_what_to_install(
    opened: Opened, request_for: RequestFor, secret: Secret, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, str]
) -> None:
    form, program = missing
    tools = secret.beside / "bin"
    tools.mkdir()
    for name in ("git", "env"):
        (tools / name).symlink_to(run("sh", "-c", f"command -v {name}").decode().strip())
    repository = opened()
    repository.fetch()
    secret.put(signingFormat=form, signingKey=b"any")
    monkeypatch.setenv("PATH", str(tools))
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert f"cannot be signed with models.signingKey without {program}; install" in outcome.reason


class Recorder:
    """Programs that write down their arguments and environment before they become the real ones.

    ``ssh`` becomes the server's side of it: it looks at the files that it was given, and runs the command here.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = folder / "log"
        self.ssh = folder / "ssh-calls"
        self.broken = folder / "broken"
        tools = folder / "bin"
        tools.mkdir(parents=True)
        record = f"{{ echo \"$0 $*\"; env; }} >> '{self.log}'\n"
        for name in ("git", "gpg", "gpgconf", "ssh-keygen"):
            real = run("sh", "-c", f"command -v {name}").decode().strip()
            self._script(tools / name, f'{record}exec {real} "$@"')
        known = f"printf '%s\\n' \"$*\" >> '{self.ssh}'\n"
        fails = f"if [ -f '{self.broken}' ]; then cat '{self.broken}' >&2; exit 255; fi\n"
        self._script(tools / "ssh", f'{record}{known}{fails}for last in "$@"; do :; done\nexec sh -c "$last"')
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    @staticmethod
    def _script(file: Path, text: str) -> None:
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def saw(self, key: bytes) -> list[str]:
        """Return the lines of a key that anybody could have seen."""
        log = self.log.read_text(errors="replace")
        return [line for line in key.decode().splitlines() if len(line) > 8 and "----" not in line and line in log]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(tmp_path / "recorder", monkeypatch)


def test_no_key_is_in_an_argument_or_environment(
    opened: Opened, request_for: RequestFor, secret: Secret, gnupg: Gpg, recorder: Recorder
) -> None:
    requests = {"ssh": ssh_key(secret.beside)[0], "openpgp": pgp_key(gnupg)}
    for form, key in requests.items():
        secret.put(signingKey=key, signingFormat=form)
        repository = opened(form)
        assert isinstance(repository.propose(request_for(), branch=f"backstay/{form}"), Proposed)
        repository.close()
        assert recorder.saw(key) == []
    assert "--import" in recorder.log.read_text()


@pytest.fixture
def over_ssh(remote: Remote, secret: Secret, tmp_path: Path, recorder: Recorder) -> Iterator[Repository]:
    """The repository as a server named forge would give it over SSH."""
    private, public = ssh_key(tmp_path)
    secret.put(url="ssh://git@forge:2222/", sshKey=private.rstrip(), knownHosts=f"[forge]:2222 {public}")
    assert recorder.log.parent.is_dir()
    work = tmp_path / "work with 100% care"
    with Repository(f"ssh://git@forge:2222{remote.bare}", "main", workdir=work, credentials=secret.credentials) as made:
        yield made


def test_ssh_uses_the_key_and_the_pinned_hosts_alone(
    remote: Remote, over_ssh: Repository, request_for: RequestFor, recorder: Recorder, secret: Secret
) -> None:
    [outcome] = over_ssh.rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert outcome.commit == remote.head()
    calls = recorder.ssh.read_text().splitlines()
    assert {call.split(" git-")[1].split()[0] for call in calls} == {"upload-pack", "receive-pack"}
    assert all(call.startswith("-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes ") for call in calls)
    assert recorder.saw((secret.folder / "models.sshKey").read_bytes()) == []
    assert left(secret.beside / "work with 100% care") == []


def test_ssh_itself_understands_what_it_is_told(secret: Secret) -> None:
    private, public = ssh_key(secret.beside)
    secret.put(url="git@forge:models.git", sshKey=private.replace(b"\n", b"\r\n"), knownHosts=f"forge {public}\r\n")
    home = secret.beside / "100% of it"
    home.mkdir()
    with ssh_command(secret.credentials.find("git@forge:models.git"), home) as command:
        said = run(*shlex.split(command), "-G", "git@forge").decode().splitlines()
        [folder] = left(home)
        assert (folder / "key").read_bytes() == private
        assert (folder / "known_hosts").read_text().strip() == f"forge {public}".strip()
        assert [path.stat().st_mode & 0o777 for path in (folder, folder / "key")] == [0o700, 0o600]
        assert run("ssh-keygen", "-y", "-f", str(folder / "key")).decode().split()[1] == public.split()[1]
    assert left(home) == []
    assert f"identityfile {str(folder).replace('%', '%%')}/key" in said
    assert f"userknownhostsfile {folder}/known_hosts" in said
    assert {"stricthostkeychecking true", "identitiesonly yes", "batchmode yes", "identityagent none"} <= set(said)
    assert "globalknownhostsfile /dev/null" in said


@pytest.mark.parametrize("lacking", ["sshKey", "knownHosts"])
def test_ssh_without_key_or_pinned_hosts_is_refused(
    over_ssh: Repository, request_for: RequestFor, secret: Secret, recorder: Recorder, lacking: str
) -> None:
    secret.put(**{lacking: None})
    [outcome] = over_ssh.rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert f"ssh://forge:2222 has no {lacking}; add models.sshKey, and as models.knownHosts" in outcome.reason
    assert not recorder.ssh.exists()


def test_what_ssh_says_is_told(over_ssh: Repository, recorder: Recorder) -> None:
    recorder.broken.write_text("No ED25519 host key is known for forge\nHost key verification failed.\n")
    with pytest.raises(GitRefused, match="Host key verification failed"):
        over_ssh.fetch()
    recorder.broken.unlink()
    over_ssh.fetch()
