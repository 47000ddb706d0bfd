"""Make commits without touching any file, so that little time passes between a fetch and the push."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.git.command import GitRefused, GitRunner
from backstay.adapters.git.signing import Signature

_REF = "refs/backstay/planted"


@dataclass(frozen=True, slots=True)
class NewCommit:
    """A commit that gives one file of its parent another content; ``mode`` is git's, ``author`` a name and a mail."""

    path: str
    mode: str
    content: bytes
    message: str
    author: tuple[str, str]


def plant(
    git: GitRunner, tree: Path, commits: Sequence[NewCommit], *, onto: str, signature: Signature | None
) -> list[str]:
    """Write commits into the clone at ``tree``, each on top of the one before and the first ``onto`` a commit.

    Raises:
        CloneBroken: git failed.
        GitRefused: they cannot be signed.
        GitUnavailable: git did not end in time.
    """
    stream = b"".join(_imported(commit, number, onto) for number, commit in enumerate(commits, 1))
    made = git.read(tree, "fast-import", "--quiet", "--force", "--date-format=now", stdin=stream).text.split()
    if signature is None:
        return made
    signed = [onto]
    for commit, unsigned in zip(commits, made, strict=True):
        signed.append(_signed(git, tree, commit, of=f"{unsigned}^{{tree}}", parent=signed[-1], signature=signature))
    return signed[1:]


def _imported(commit: NewCommit, number: int, onto: str) -> bytes:
    """Write a commit as git's fast-import reads it, and ask for its name."""
    who = "{} <{}> now".format(*commit.author)
    path = commit.path.replace("\\", "\\\\").replace('"', '\\"')
    parent = onto if number == 1 else f":{number - 1}"
    return b"".join(
        [
            f"commit {_REF}\nmark :{number}\nauthor {who}\ncommitter {who}\n".encode(),
            _data(commit.message.encode()),
            f'from {parent}\nM {commit.mode} inline "{path}"\n'.encode(),
            _data(commit.content),
            f"get-mark :{number}\n".encode(),
        ]
    )


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _signed(  # noqa: PLR0913 - the parts of one command, by keyword
    git: GitRunner, tree: Path, commit: NewCommit, *, of: str, parent: str, signature: Signature
) -> str:
    name, mail = commit.author
    settings = [f"user.name={name}", f"user.email={mail}", *signature.settings]
    options = [part for setting in settings for part in ("-c", setting)]
    command = [*options, "commit-tree", "-S", of, "-p", parent]
    answer = git.local(tree, *command, stdin=commit.message.encode(), bound=signature.environment)
    if answer.status:
        raise GitRefused(
            f"A commit for {git.remote.identity} cannot be signed with {signature.key}: {answer.reason}; "
            "correct the key in the Secret"
        )
    return answer.text
