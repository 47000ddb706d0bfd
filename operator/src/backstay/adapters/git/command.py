"""Run git so that nothing of the machine or the user leaks in, no secret leaks out, and nothing blocks without end."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from git.cmd import Git

from backstay.adapters.forge.credentials import Credential, Credentials
from backstay.adapters.git.keys import ssh_command
from backstay.adapters.git_url import GitUrl, without_user
from backstay.adapters.secrets import CredentialError

LOCAL_SECONDS = 60.0
REMOTE_SECONDS = 60.0
CLONE_SECONDS = 900.0

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.logAllRefUpdates=false",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "submodule.recurse=false",
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=30",
    "credential.helper=",
)
_FREE: Mapping[str, str] = {}
_KEPT = frozenset({"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_EXEC_PATH"})

_RACE = re.compile(
    r"non-fast-forward|fetch first|cannot lock ref|incorrect old value provided|reference already exists"
    r"|failed to update ref|stale info",
    re.IGNORECASE,
)
# A server with a fault of its own rejects a push too, but will not the next time.
_SERVER_FAILED = re.compile(
    r"internal (?:server )?error|unpack(?:er error| failed)|connection refused|temporarily|time(?:d )?out",
    re.IGNORECASE,
)
_ABSENT = re.compile(
    r"couldn't find remote ref|repository .*not found|does not appear to be a git repository|returned error: 404",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"authentication failed|could not read (?:username|password)|terminal prompts disabled|returned error: 40[13]"
    r"|HTTP 40[13]|permission (?:to .*)?denied|access denied|write access .*not granted|not allowed to|protected branch"
    r"|GH0(?:06|13)|TF40\d{4}|hook declined|host key verification failed|certificate",
    re.IGNORECASE,
)
_PROTECTED = re.compile(
    r"protected branch|GH0(?:06|13)|TF402455|hook declined|through (?:a )?pull requests?", re.IGNORECASE
)
_NETWORK = re.compile(
    r"could not resolve|failed to connect|couldn't connect|connection (?:refused|reset|timed out|closed)|timed out"
    r"|did not finish within|early EOF|RPC failed|hung up|returned error: (?:429|5\d\d)|unable to access"
    r"|could not read from remote|no route to host|network is unreachable|transfer closed|operation too slow",
    re.IGNORECASE,
)
_NOISE = re.compile(r"^(?:hint:|Cloning into|From |To |Done$|error: failed to push some refs|warning:|\s*$)")
_PREFIX = re.compile(r"^(?:(?:fatal|error):\s*|!\s+\S*:refs/heads/)")
_LONGEST_REASON = 400


class GitError(Exception):
    """Something went wrong with a repository; the message is a sentence that holds no secret."""


class GitUnavailable(GitError):  # noqa: N818 - it says what is the case, like the outcome made from it
    """The server could not be reached, or answered with a fault of its own: worth trying again later."""


class GitRefused(GitError):  # noqa: N818 - as above
    """The server knows us and says no, or the URL or credential cannot work: a person must act."""


class GitProtected(GitRefused):
    """The server takes no push of ours to this branch; another branch, and a pull request from it, may do."""


class GitAbsent(GitError):  # noqa: N818 - as above
    """The repository or branch does not exist (or is hidden from us)."""


class GitRace(GitError):  # noqa: N818 - as above
    """Somebody else pushed first."""


class CloneBroken(GitError):  # noqa: N818 - as above
    """The local clone is damaged: delete it and make it again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What git wrote, and how it ended."""

    status: int
    out: bytes
    err: str

    @property
    def reason(self) -> str:
        """The lines of the error output that tell a person what happened, as one line."""
        return _reason(self.err)

    @property
    def text(self) -> str:
        """The standard output as text, without the last newline."""
        return self.out.decode(errors="replace").rstrip("\n")


@dataclass(frozen=True, slots=True)
class GitRunner:
    """Runs git in one folder for one remote.

    Args:
        remote: the only repository that commands may talk to.
        home: a folder without any configuration of a user.
        credentials: asked again for every command that talks to the remote.
        inherit: a file descriptor that git's processes hold on to (the lock of the work folder), or -1.
    """

    remote: GitUrl
    home: Path
    credentials: Credentials | None
    inherit: int = -1

    def local(self, folder: Path, *arguments: str, stdin: bytes = b"", bound: Mapping[str, str] = _FREE) -> Answer:
        """Run a command that needs no network: it cannot even fetch what a partial clone left out.

        ``bound`` sets GIT_DIR and its like, for a second work tree.

        Raises:
            GitUnavailable: it did not finish in time.
        """
        environment = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", **bound}
        return self._run(folder, arguments, environment, stdin=stdin, seconds=LOCAL_SECONDS)

    def read(self, folder: Path, *arguments: str, stdin: bytes = b"", bound: Mapping[str, str] = _FREE) -> Answer:
        """Run a local command that must succeed.

        Raises:
            CloneBroken: it did not.
            GitUnavailable: it did not finish in time.
        """
        answer = self.local(folder, *arguments, stdin=stdin, bound=bound)
        if answer.status:
            raise CloneBroken(f"The local clone of {self.remote.identity} is damaged: {_reason(answer.err)}")
        return answer

    def talk(self, folder: Path, *arguments: str, stdin: bytes = b"", seconds: float = REMOTE_SECONDS) -> Answer:
        """Run a command that may talk to the remote, with its credential, and must succeed.

        Raises:
            GitUnavailable, GitRefused, GitAbsent, GitRace: the remote's answer.
            CloneBroken: none of these: what went wrong is on our side.
        """
        with ExitStack() as stack:
            try:
                credential = self.credential()
                secrets = () if credential is None else credential.secrets()
                options, transport = stack.enter_context(self._transport(credential))
            except CredentialError as error:
                raise GitRefused(str(error)) from None
            except OSError as error:
                raise unreadable(error) from None
            environment = {"GIT_ALLOW_PROTOCOL": self.remote.scheme, **transport}
            answer = self._run(folder, (*options, *arguments), environment, stdin=stdin, seconds=seconds)
        if answer.status:
            raise failure(self.remote, f"{answer.err}\n{answer.text}", secrets)
        return answer

    def credential(self) -> Credential | None:
        """Look the credential up, as its files are now.

        Raises:
            CredentialError, OSError: it cannot be used or read.
        """
        return self.credentials.find(self.remote.connect) if self.credentials else None

    @contextmanager
    def _transport(self, credential: Credential | None) -> Iterator[tuple[list[str], Mapping[str, str]]]:
        """Return git's options and environment for reaching the remote."""
        if self.remote.scheme == "ssh":
            with ssh_command(credential, self.home) as command:
                yield [], {"GIT_SSH_COMMAND": command}
        elif credential is None or not credential.password.is_file():
            yield [], {}
        else:
            yield ["-c", f"credential.{_site(self.remote)}.helper={credential.helper()}"], {}

    def _run(
        self, folder: Path, arguments: tuple[str, ...], environment: Mapping[str, str], *, stdin: bytes, seconds: float
    ) -> Answer:
        if not folder.is_dir():
            raise CloneBroken(f"The local clone of {self.remote.identity} is gone")
        overlay = {
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent),
            **environment,
        }
        # GitPython passes our whole environment on; a GIT_DIR or GIT_TRACE in it would redirect or print what git does.
        inherited = [name for name in os.environ if name.startswith("GIT_") and name not in _KEPT | overlay.keys()]
        without = [part for name in inherited for part in ("-u", name)]
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [*(["env", *without] if without else []), "git", *settings, *arguments]
        process = Git(folder).execute(
            command,
            istream=subprocess.PIPE,
            as_process=True,
            env=overlay,
            start_new_session=True,
            pass_fds=() if self.inherit < 0 else (self.inherit,),
        )
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise GitUnavailable(
                f"git {_verb(arguments)} for {self.remote.identity} did not finish within {seconds:.0f} s; "
                "the server may be hanging"
            ) from None
        return Answer(process.returncode, out, err.decode(errors="replace"))


def unreadable(error: OSError) -> GitUnavailable:
    """Say that the mounted Secret does not serve at the moment."""
    return GitUnavailable(f"The Git credentials cannot be read: {error.strerror}; check the mounted Secret")


def failure(remote: GitUrl, text: str, secrets: tuple[str, ...]) -> GitError:
    """Tell from what git wrote which kind of failure it was."""
    said = _reason(_scrub(text, secrets))
    where = remote.identity
    if _RACE.search(text):
        return GitRace(f"Somebody else pushed to {where} first: {said}")
    rejected = "[remote rejected]" in text
    if rejected and _SERVER_FAILED.search(text):
        return GitUnavailable(f"{where} failed while it checked the push: {said}")
    if _ABSENT.search(text):
        return GitAbsent(f"{where} has no such repository or branch, or hides it from this credential: {said}")
    if rejected or _REFUSED.search(text):
        kind = GitProtected if _PROTECTED.search(text) else GitRefused
        return kind(f"{where} refused: {said}; give the Git credential the right to push, or make the change yourself")
    if _NETWORK.search(text):
        return GitUnavailable(f"{where} cannot be reached: {said}")
    return CloneBroken(f"git failed for {where}: {said}")


def _reason(text: str) -> str:
    """Return the lines that tell a person what happened, as one line."""
    lines = (line.strip().removeprefix("remote:").strip() for line in text.splitlines())
    told = [_PREFIX.sub("", line) for line in lines if not _NOISE.match(line)]
    said = "; ".join(dict.fromkeys(line for line in told if line)) or "it gave no reason"
    said = "".join(char if char.isprintable() else " " for char in said)
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]} ..."


def _scrub(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return without_user(text)


def _site(remote: GitUrl) -> str:
    return "/".join(remote.identity.split("/", 3)[:3])


def _verb(arguments: tuple[str, ...]) -> str:
    """Return git's subcommand, behind options such as ``-c name=value``."""
    rest = list(arguments)
    while rest[0] == "-c":
        rest = rest[2:]
    return rest[0]
