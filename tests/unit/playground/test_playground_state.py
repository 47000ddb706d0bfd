"""The state folder, its locks, and whose files are left alone."""

import os
import stat
from pathlib import Path

import pytest

from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import Layout, state_folder, user_cache, write_private
from backstay_playground.machine import claim, release, state_lock
from backstay_playground.pki import Pki
from backstay_playground.playground import Playground
from backstay_playground.ports import assign
from backstay_playground.processes import Record, Records, identify


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def layout(path: Path) -> Layout:
    found = Layout(path)
    found.create()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_chosen_by_argument_then_variable_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BACKSTAY_PLAYGROUND", raising=False)
    assert state_folder() == tmp_path / ".playground"
    monkeypatch.setenv("BACKSTAY_PLAYGROUND", str(tmp_path / "b"))
    assert state_folder() == tmp_path / "b"
    assert state_folder(tmp_path / "a") == tmp_path / "a"


def test_the_cache_follows_xdg(tmp_path: Path) -> None:
    assert user_cache() == tmp_path / "cache" / "backstay"


def test_a_folder_with_other_things_is_neither_used_nor_removed(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter").touch()
    with pytest.raises(PlaygroundError, match="no playground's"):
        Layout(folder).create()
    with pytest.raises(PlaygroundError, match="left alone"):
        Layout(folder).remove(keep_logs=False)
    assert (folder / "letter").exists()


def test_removing_can_keep_the_logs_and_a_new_playground_can_use_the_folder(tmp_path: Path) -> None:
    state = layout(tmp_path / "state")
    state.log("etcd").touch()
    state.remove(keep_logs=True)
    assert [entry.name for entry in state.root.iterdir()] == ["logs"]
    state.create()
    state.remove(keep_logs=False)
    assert not state.root.exists()


def test_others_cannot_read_the_folder_or_a_secret_in_it(tmp_path: Path) -> None:
    state = layout(tmp_path / "state")
    write_private(state.gitea_token, "secret")
    assert mode(state.root) == 0o700
    assert mode(state.gitea_token) == 0o600


def test_keys_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.create()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    pki.create()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    assert len(pki.admin_token()) > 30


def test_a_second_command_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with state_lock(tmp_path), pytest.raises(PlaygroundError, match=f"process {os.getpid()}"), state_lock(tmp_path):
        pytest.fail("two commands held the lock")
    with state_lock(tmp_path), state_lock(tmp_path / "another"):
        pass


def test_a_second_playground_learns_who_is_in_its_way(tmp_path: Path) -> None:
    first, second = layout(tmp_path / "first"), layout(tmp_path / "second")
    claim(first)
    Records(first.run).save("etcd", Record(identify(os.getpid()), (), "", 0))
    claim(first)
    with pytest.raises(PlaygroundError, match=f"down --state {first.root}"):
        claim(second)
    release(second)
    with pytest.raises(PlaygroundError):
        claim(second)
    release(first)
    claim(second)


def test_a_playground_that_crashed_is_in_nobodys_way(tmp_path: Path) -> None:
    claim(layout(tmp_path / "first"))
    claim(layout(tmp_path / "second"))


def test_without_a_playground_there_is_a_sentence(tmp_path: Path) -> None:
    playground = Playground(tmp_path / "none")
    assert playground.down() is False
    for ask in (playground.endpoints, playground.status, lambda: playground.stop("etcd"), lambda: playground.gitea):
        with pytest.raises(PlaygroundError, match="There is no playground in"):
            ask()


def test_an_unknown_component_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    state = layout(tmp_path / "state")
    assign(state.ports, {})
    with pytest.raises(PlaygroundError, match="no component 'etdc'; there are etcd, kube-apiserver"):
        Playground(state.root).stop("etdc")
