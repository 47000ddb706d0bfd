"""Check edits by rendering them, and remember what came of it."""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.git.clone import Clone
from backstay.adapters.gitops.locate import Found
from backstay.adapters.gitops.render import RenderError, RenderTimeoutError, check, render, sources

_KEPT = 64


@dataclass(frozen=True, slots=True)
class Edit:
    """New content for a version file on top of the commit ``tip``, which ``commit`` brings."""

    tip: str
    commit: str
    found: Found
    content: bytes


class Renders:
    """Renders an edit's folder before and after it, once for the same edit of the same sources.

    Rendering is most of the time between fetch and push. After a race that was lost to a commit elsewhere in the
    repository it is not done again, or a branch that many push to could keep a rollback out without end.

    Args:
        clone: where the files are.
        home: a folder without any configuration of a user.
    """

    def __init__(self, clone: Clone, *, home: Path) -> None:
        self._clone = clone
        self._home = home
        self._refusals: OrderedDict[tuple[str, str, bytes], str] = OrderedDict()
        self._sources: dict[str, frozenset[str]] = {}

    def check(self, edit: Edit, *, name: str, namespace: str, version: str) -> None:
        """Check that an edit changes ``spec.model`` of one ModelDeployment alone; see `render.check`.

        Raises:
            RenderError: what speaks against the edit.
        """
        key = self._key(edit)
        if key not in self._refusals:
            refusal = ""
            try:
                before, after = self._both(edit)
                self._sources[edit.found.folder] = sources(self._clone.tree, edit.found.folder)
                key = self._key(edit)
                check(before, after, name=name, namespace=namespace, version=version)
            except RenderTimeoutError:
                raise
            except RenderError as error:
                refusal = str(error)
            self._refusals[key] = refusal
        while len(self._refusals) > _KEPT:
            self._refusals.popitem(last=False)
        if self._refusals[key]:
            raise RenderError(self._refusals[key])

    def _key(self, edit: Edit) -> tuple[str, str, bytes]:
        """Name an edit of everything that rendering its folder reads: the same at commits that change other things."""
        known = sorted(self._sources.get(edit.found.folder, ()))
        answer = self._clone.ask("rev-parse", *(f"{edit.tip}:{path}" for path in known)) if known else None
        inputs = answer.text if answer is not None and answer.status == 0 else edit.tip
        return inputs, edit.found.entry.path, edit.content

    def reads(self, folder: str) -> frozenset[str]:
        """List what rendering a folder reads, which must have been checked before; the empty path is everything."""
        return self._sources.get(folder) or frozenset({""})

    def _both(self, edit: Edit) -> tuple[str, str]:
        """Render the files before and after the edit at the same time."""
        folder = edit.found.folder
        self._clone.checkout(edit.tip)
        self._clone.lay_out(edit.commit)
        with ThreadPoolExecutor(max_workers=2) as threads:
            before, after = (
                threads.submit(render, tree, folder, home=self._home) for tree in (self._clone.tree, self._clone.next)
            )
            return before.result(), after.result()
