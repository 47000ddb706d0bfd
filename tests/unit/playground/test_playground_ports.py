"""Ports: chosen, remembered, preferred, free."""

import socket
from pathlib import Path

import pytest

from backstay_playground.errors import PlaygroundError
from backstay_playground.ports import PREFERRED, address_of, assign, is_free, parse_choices, remembered, variable


def test_every_listener_gets_a_port_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = assign(memory, {})
    assert set(first) == set(PREFERRED)
    assert len(set(first.values())) == len(first)
    assert assign(memory, {}) == first
    assert remembered(memory) == first


def test_a_preferred_port_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", PREFERRED["gateway"]))
            other.listen()
        except OSError:
            # Then somebody else holds it, which serves as well.
            pass
        assert not is_free(address_of("gateway"), PREFERRED["gateway"])
        assert assign(tmp_path / "ports.json", {})["gateway"] != PREFERRED["gateway"]


def test_a_chosen_port_wins_over_the_remembered_one(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    before = assign(memory, {})
    after = assign(memory, {"gitea": 23999})
    assert after == before | {"gitea": 23999}
    assert remembered(memory) == after


def test_two_listeners_cannot_share_a_port(tmp_path: Path) -> None:
    with pytest.raises(PlaygroundError, match="Port 23998 was given to gitea and mlflow"):
        assign(tmp_path / "ports.json", {"gitea": 23998, "mlflow": 23998})


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    memory.write_text("{")
    with pytest.raises(PlaygroundError, match="is damaged"):
        assign(memory, {})


def test_words_and_variables_choose_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKSTAY_PORT_KUBE_APISERVER", "26443")
    monkeypatch.setenv("BACKSTAY_PORT_GITEA", "23000")
    assert variable("kube-apiserver") == "BACKSTAY_PORT_KUBE_APISERVER"
    assert parse_choices(["gitea=23001"]) == {"kube-apiserver": 26443, "gitea": 23001}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("gitlab=1", "no port named 'gitlab'"),
        ("gitea", "not a number from 1 to 65535"),
        ("gitea=http", "not a number from 1 to 65535"),
        ("gitea=70000", "not a number from 1 to 65535"),
        ("gateway=8080", "would take that port from every pod"),
    ],
)
def test_a_bad_choice_is_refused_with_a_sentence(word: str, sentence: str) -> None:
    with pytest.raises(PlaygroundError, match=sentence):
        parse_choices([word])
