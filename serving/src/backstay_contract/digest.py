"""The checksum that names what a model's artifact folder holds, file by file.

It is written into `spec.model.digest`, and checked again by the model server at every start, before anything of the
model is loaded: a version of a registry can be overwritten in its artifact store, a digest cannot.
"""

import hashlib
from pathlib import Path

# MLflow's client writes this file beside MLmodel while it downloads a registered model. It was never logged with the
# model, so a folder has the same digest with and without it.
DOWNLOAD_MARK = "registered_model_meta"


class ArtifactError(ValueError):
    """Something in the folder is neither a regular file nor a folder.

    Attributes:
        path: where it is, relative to the folder.
    """

    def __init__(self, folder: Path, path: str) -> None:
        self.path = path
        super().__init__(f"{path} in {folder} is not a regular file; a model's artifacts are regular files only")


class NoArtifactsError(FileNotFoundError):
    """The folder does not exist or holds no file of a model."""


def artifact_digest(folder: Path) -> str:
    r"""Return the digest of a model's artifact folder.

    The digest is the SHA-256 of one line for each regular file under the folder, the lines sorted by the bytes of the
    path: the path relative to the folder in UTF-8 with `/` between its parts, a NUL byte, the SHA-256 of the file's
    content in 64 hexadecimal digits, and `\n`. Empty folders, modes and times do not count, nor does the file
    `registered_model_meta` at the top (see `DOWNLOAD_MARK`).

    Args:
        folder: the folder that holds `MLmodel`.

    Returns:
        `sha256:` and 64 hexadecimal digits.

    Raises:
        NoArtifactsError: the folder does not exist or holds no file.
        ArtifactError: something in it, of any name, is neither a regular file nor a folder (a symbolic link, a
            socket), so that its content could change behind the digest.
    """
    lines = sorted(_line(folder, path) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    kept = [line for line in lines if not line.startswith(DOWNLOAD_MARK.encode() + b"\0")]
    if not kept:
        raise NoArtifactsError(f"{folder} holds no files, so there is no model in it to take a digest of")
    return "sha256:" + hashlib.sha256(b"".join(kept)).hexdigest()


def _line(folder: Path, path: Path) -> bytes:
    name = path.relative_to(folder).as_posix()
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(folder, name)
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return name.encode() + b"\0" + content.encode() + b"\n"
