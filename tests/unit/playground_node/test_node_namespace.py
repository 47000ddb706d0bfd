import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from backstay_playground.node.namespace import wrap

REFUSED = subprocess.run(wrap(["true"], mounts={}), capture_output=True, check=False).returncode == 125
pytestmark = pytest.mark.skipif(REFUSED, reason="this machine gives no user namespaces to this user")


def run(script: str, mounts: Mapping[str, Path], **settings: str) -> subprocess.CompletedProcess[str]:
    argv = wrap(["sh", "-c", script], mounts=mounts)
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=settings.get("cwd"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "file").write_text("content")
    return folder


@pytest.mark.parametrize(
    "target", ["/backstay-test", "/backstay-test/deep/er", "/etc/backstay-test", "/var/run/backstay-test/deep", "/mnt"]
)
def test_a_folder_appears_and_the_host_stays_as_it_is(folder: Path, target: str) -> None:
    before = {parent: sorted(Path(parent).iterdir()) for parent in ("/", "/etc", "/run", "/mnt")}
    answer = run(f"cat {target}/file; echo changed > {target}/file", {target: folder})
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "content", "")
    assert (folder / "file").read_text() == "changed\n"
    assert {parent: sorted(Path(parent).iterdir()) for parent in before} == before


def test_a_file_covers_a_file(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.96.0.9 somewhere.test\n")
    answer = run("cat /etc/hosts", {"/etc/hosts": hosts})
    assert answer.stdout == "127.96.0.9 somewhere.test\n"
    # Written in place, it changes inside too; that is how Services become known to running pods.
    process = subprocess.Popen(
        wrap(["sh", "-c", "echo up; read line; cat /etc/hosts"], mounts={"/etc/hosts": hosts}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    hosts.write_text("127.96.0.9 elsewhere.test\n")
    assert process.communicate("\n")[0] == "127.96.0.9 elsewhere.test\n"


def test_everything_else_is_still_there(folder: Path) -> None:
    paths = ("/usr/bin", "/var", "/etc", str(folder.parent))
    listing = " ".join(f"$(ls -a {path} | md5sum)" for path in paths)
    outside = subprocess.run(["sh", "-c", f"echo {listing}"], capture_output=True, text=True, check=True).stdout
    inside = run(f"echo {listing}; ls /dev/null /proc/self/status > /dev/null", {"/backstay-test": folder})
    assert (inside.stdout, inside.stderr) == (outside, "")


def test_a_mount_may_cover_the_place_of_another_ones_source(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = run(f"ls {tmp_path}; cat /zone/file", {str(tmp_path): empty, "/zone": folder}, cwd="/")
    assert (answer.returncode, answer.stdout) == (0, "content")


def test_mounts_nest(folder: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.write_text("inner")
    argv = wrap(["sh", "-c", "cat /one/file /one/two"], mounts={"/one/two": inner})
    outer = wrap(argv, mounts={"/one": folder})
    assert subprocess.run(outer, capture_output=True, text=True, check=True).stdout == "contentinner"
    assert not (folder / "two").exists()


def test_the_process_is_the_program_itself(folder: Path) -> None:
    process = subprocess.Popen(wrap(["sh", "-c", "echo $$; id -u; pwd"], mounts={"/x": folder}), stdout=subprocess.PIPE)
    output = process.communicate()[0].decode().split()
    assert output == [str(process.pid), str(os.getuid()), str(Path.cwd())]
    assert run("exit 7", {}).returncode == 7


def test_failures_are_told_in_a_sentence(tmp_path: Path) -> None:
    missing = run("true", {"/x": tmp_path / "missing"})
    assert missing.returncode == 125
    assert str(tmp_path / "missing") in missing.stderr
    unknown = subprocess.run(wrap(["no-such-program"], mounts={}), capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stderr) == (127, "Cannot run no-such-program: No such file or directory\n")
