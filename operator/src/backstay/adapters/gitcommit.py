"""Make a commit without touching the files of the branch that is followed."""

from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.gitcommand import GitRefused, GitRunner
from backstay.adapters.gitsigning import Signature


@dataclass(frozen=True, slots=True)
class NewCommit:
    """A commit that gives one file of its parent another content; ``mode`` is git's, ``author`` a name and a mail."""

    parent: str
    path: str
    mode: str
    content: bytes
    message: str
    author: tuple[str, str]


def write_commit(git: GitRunner, tree: Path, beside: Path, *, commit: NewCommit, signature: Signature | None) -> str:
    """Write a commit into the clone at ``tree``; its files are then in ``beside``.

    Raises:
        CloneBroken: git failed.
        GitRefused: the commit cannot be signed.
        GitUnavailable: git did not end in time.
    """
    git_dir = tree / ".git"
    bound = {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(beside), "GIT_INDEX_FILE": str(git_dir / "backstay-next")}

    def read(*arguments: str, stdin: bytes = b"") -> str:
        return git.read(beside, *arguments, stdin=stdin, bound=bound).text

    blob = read("hash-object", "-w", "--stdin", stdin=commit.content)
    read("read-tree", "--reset", "-u", commit.parent)
    read("update-index", "--cacheinfo", f"{commit.mode},{blob},{commit.path}")
    read("checkout-index", "--force", "--", commit.path)
    name, mail = commit.author
    settings = [f"user.name={name}", f"user.email={mail}", *(signature.settings if signature else ())]
    making = [part for setting in settings for part in ("-c", setting)]
    making += ["commit-tree", *(["-S"] if signature else []), read("write-tree"), "-p", commit.parent]
    message = commit.message.encode()
    if signature is None:
        return read(*making, stdin=message)
    answer = git.local(beside, *making, stdin=message, bound={**bound, **signature.environment})
    if answer.status:
        raise GitRefused(
            f"A commit for {git.remote.identity} cannot be signed with {signature.key}: {answer.reason}; "
            "correct the key in the Secret"
        )
    return answer.text
