"""Where the playground keeps things: one state folder, and a cache that all playgrounds of a user share."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from backstay_playground.errors import PlaygroundError

STATE_VARIABLE = "BACKSTAY_PLAYGROUND"
DEFAULT_STATE = ".playground"


def user_cache() -> Path:
    """Return the user's cache folder for Backstay; XDG_CACHE_HOME moves it."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "backstay"


def repository_root() -> Path:
    """Return the checkout this package runs from.

    Raises:
        PlaygroundError: the package was installed without the checkout around it.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "playground" / "tools").is_dir():
        raise PlaygroundError(
            "The playground builds its components from the folder playground/tools of a checkout of Backstay, "
            "which is missing here: run it from a checkout (pip install --editable .)."
        )
    return root


def state_folder(chosen: Path | str = "") -> Path:
    """Return the state folder: `chosen`, else $BACKSTAY_PLAYGROUND, else .playground in the current directory."""
    return Path(chosen or os.environ.get(STATE_VARIABLE, "") or DEFAULT_STATE).resolve()


@dataclass(frozen=True)
class Layout:
    """Names inside the state folder, so that no other module spells a path."""

    root: Path

    @property
    def logs(self) -> Path:
        """Return the folder with one log file a component."""
        return self.root / "logs"

    @property
    def pod_logs(self) -> Path:
        """Return the folder with one log file a container."""
        return self.logs / "pods"

    @property
    def run(self) -> Path:
        """Return the folder with one record a started process."""
        return self.root / "run"

    @property
    def pki(self) -> Path:
        """Return the folder with keys, certificates and tokens."""
        return self.root / "pki"

    @property
    def bin(self) -> Path:
        """Return the folder that puts the built tools on the PATH of components under their plain names."""
        return self.root / "bin"

    @property
    def ports(self) -> Path:
        """Return the file that remembers the chosen ports."""
        return self.root / "ports.json"

    @property
    def endpoints(self) -> Path:
        """Return the file that tells people and scripts where everything listens."""
        return self.root / "endpoints.json"

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        """Return the file that maps image names to local commands, for the process node."""
        return self.root / "images.json"

    @property
    def node(self) -> Path:
        """Return the state folder of the process node."""
        return self.root / "node"

    @property
    def hosts(self) -> Path:
        """Return the hosts file that names every Service; the process node writes it."""
        return self.node / "hosts"

    @property
    def gitea_token(self) -> Path:
        """Return the file (mode 0600) with the token of Gitea's administrator."""
        return self.pki / "gitea-token"

    def log(self, name: str) -> Path:
        """Return the log file of component `name`."""
        return self.logs / f"{name}.log"

    def data(self, name: str) -> Path:
        """Return the data folder of component `name`."""
        return self.root / "data" / name

    @property
    def mark(self) -> Path:
        """Return the file that says that this folder belongs to a playground, and may be emptied."""
        return self.root / "this-is-a-backstay-playground"

    def create(self) -> None:
        """Make the folders; the root is closed to other users, as it holds keys and tokens.

        Raises:
            PlaygroundError: the folder holds something else.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.mark.exists() and any(entry != self.logs for entry in self.root.iterdir()):
            raise PlaygroundError(
                f"The folder {self.root} holds files that are no playground's; choose another --state."
            )
        if not self.mark.exists() and self.pod_logs.exists():
            # An earlier playground's, which nothing else here speaks of any more.
            remove_path(self.pod_logs)
        self.mark.touch()
        self.root.chmod(0o700)
        for folder in (self.logs, self.run, self.pki, self.bin, self.node):
            folder.mkdir(exist_ok=True)

    def remove(self, *, keep_logs: bool) -> None:
        """Remove the state folder, the logs only if they are not wanted.

        Raises:
            PlaygroundError: it is not a playground's folder.
        """
        if not self.mark.exists():
            raise PlaygroundError(f"{self.root} is no playground's folder, so it is left alone.")
        kept = {self.mark, self.logs} if keep_logs else {self.mark}
        for entry in set(self.root.iterdir()) - kept:
            remove_path(entry)
        # Last, so that a removal that was cut short can be repeated.
        self.mark.unlink()
        if not keep_logs:
            self.root.rmdir()


def remove_path(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    # Argo CD closes the folder with its clones even to its owner.
    path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for child in (Path(folder) / name for name in names):
            if not child.is_symlink():
                child.chmod(0o700)
    shutil.rmtree(path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
