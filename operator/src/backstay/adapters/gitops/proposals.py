"""Branches of proposals: what one holds beside the base branch, and whether that is ours to replace."""

import re
from dataclasses import dataclass

from backstay.adapters.git.clone import Clone, is_branch_name
from backstay.adapters.git.objects import TRAILERS
from backstay.adapters.gitops.changes import PATH_TRAILER, Mark
from backstay.adapters.messages.rollback_commit import ID_TRAILER

PREFIX = "backstay/"
_RAW = re.compile(r":\d+ \d+ [0-9a-f]+ [0-9a-f]+ [A-Z]\d*\0(?P<path>[^\0]+)\0")


@dataclass(frozen=True, slots=True)
class Standing:
    """What the branch of a proposal holds.

    Args:
        tip: its newest commit; empty where there is no such branch.
        fork: the newest commit that it shares with the base branch; empty where they share none.
        commits: the trailers of each commit, of those that the base branch lacks; merges left out.
        edit: what it changes since ``fork``, as `difference` says it.
    """

    tip: str = ""
    fork: str = ""
    commits: tuple[frozenset[str], ...] = ()
    edit: str = ""

    def holds(self, mark: Mark, edit: str) -> bool:
        """Tell whether the branch proposes this edit, on top of the same content, with the request's mark."""
        wanted = mark.once or mark.about
        return bool(self.edit) and self.edit == edit and any(wanted in lines for lines in self.commits)

    def only(self, mark: Mark, file: str) -> bool:
        """Tell whether the branch holds nothing but commits about this file that carry our mark."""
        if not self.tip:
            return True
        ours = all(lines & {mark.once, mark.about} - {""} for lines in self.commits)
        return bool(self.fork) and ours and set(_RAW.findall(self.edit)) <= {file}

    @property
    def proposed(self) -> bool:
        """Whether all commits of the branch were made for proposals."""
        marks = (f"{ID_TRAILER}: ", f"{PATH_TRAILER}: ")
        return bool(self.fork) and all(any(line.startswith(marks) for line in lines) for lines in self.commits)


def refuse_branch(branch: str) -> None:
    """Refuse a branch that is not one for proposals.

    Raises:
        ValueError: it is not below ``backstay/``, or cannot be the name of a branch.
    """
    if not (branch.startswith(PREFIX) and is_branch_name(branch)):
        raise ValueError(f"{branch!r} cannot be the branch of a proposal; name one below {PREFIX}")


def standing(clone: Clone, branch: str, head: str) -> Standing:
    """Fetch the branch of a proposal and compare it with the base branch's newest commit.

    Raises:
        GitUnavailable, GitRefused, CloneBroken, GitRace: it cannot be read.
    """
    tip = clone.fetch_proposal(branch)
    if not tip:
        return Standing()
    shared = clone.ask("merge-base", head, tip)
    if shared.status:
        return Standing(tip)
    said = clone.read("log", "--no-merges", f"--format={TRAILERS}%x00", f"{head}..{tip}")
    commits = tuple(frozenset(lines.split("\n")) for lines in said.split("\0")[:-1])
    return Standing(tip, shared.text, commits, difference(clone, shared.text, tip))


def difference(clone: Clone, older: str, newer: str) -> str:
    """Say which files differ between two commits, with the names of their contents before and after."""
    return clone.read("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", older, newer)
