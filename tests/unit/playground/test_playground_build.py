"""Which program is used, and when it is built anew."""

from dataclasses import replace
from pathlib import Path

import pytest

from backstay_playground.build import Found, Missing, look_up, parse_go_version
from backstay_playground.errors import PlaygroundError
from backstay_playground.tools import TOOLS, Tool, module_version

GO_MOD = "module x\n\ngo 1.26\n\nrequire example.com/tool v1.2.3\n"


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    (tmp_path / "go.mod").write_text(GO_MOD)
    (tmp_path / "go.sum").write_text("sum\n")
    (tmp_path / "main.go").write_text("package main\n")
    return Tool("tool", str(tmp_path), "example.com/tool", "example.com/tool/cmd", stamps={"a.version": "v{version}"})


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_the_key_is_stable(tool: Tool) -> None:
    assert tool.key() == tool.key()
    assert len(tool.key()) == 12


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go", "another.go"])
def test_the_key_changes_with_every_source(tool: Tool, name: str) -> None:
    before = tool.key()
    with (tool.directory / name).open("a") as file:
        file.write("// changed\n")
    assert tool.key() != before


@pytest.mark.parametrize("change", [{"package": "example.com/tool/other"}, {"tags": "sqlite"}, {"stamps": {}}])
def test_the_key_changes_with_what_is_built_and_how(tool: Tool, change: dict[str, str]) -> None:
    assert replace(tool, **change).key() != tool.key()  # type: ignore[arg-type] # fields of several types


def test_flags_carry_the_version_from_go_mod(tool: Tool) -> None:
    assert tool.flags() == ("-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X a.version=v1.2.3")
    assert replace(tool, tags="x").flags()[2:4] == ("-tags", "x")


def test_a_version_is_read_from_one_line_and_from_a_block() -> None:
    assert module_version(GO_MOD, "example.com/tool") == "1.2.3"
    assert module_version("require (\n\texample.com/tool v0.9.0 // indirect\n)\n", "example.com/tool") == "0.9.0"
    with pytest.raises(PlaygroundError, match=r"does not require example\.com/other"):
        module_version(GO_MOD, "example.com/other")


@pytest.mark.parametrize("name", TOOLS)
def test_every_committed_module_says_what_it_builds(name: str) -> None:
    assert TOOLS[name].version.count(".") == 2
    assert "{" not in " ".join(TOOLS[name].flags())


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.27rc1 X:foo linux/arm64", (1, 27))],
)
def test_the_version_of_go(text: str, version: tuple[int, int]) -> None:
    assert parse_go_version(text) == version


def test_a_go_without_a_version_is_named() -> None:
    with pytest.raises(PlaygroundError, match="names no version"):
        parse_go_version("go version devel")


class TestLookUp:
    """The order: KUBEBUILDER_ASSETS, the PATH for kubectl, the cache, and then it must be built."""

    @pytest.fixture(autouse=True)
    def _empty_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", str(tmp_path / "path"))
        monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)

    def cached(self, tmp_path: Path, name: str) -> Path:
        return tmp_path / "cache" / "backstay" / "bin" / f"{name}-{TOOLS[name].key()}"

    @pytest.mark.parametrize("name", ["etcd", "kubectl", "gitea"])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        assert look_up(name) == Missing(TOOLS[name], self.cached(tmp_path, name))

    def test_cache(self, tmp_path: Path) -> None:
        program(self.cached(tmp_path, "etcd"))
        assert look_up("etcd") == Found(self.cached(tmp_path, "etcd"))

    def test_path_is_for_kubectl_only(self, tmp_path: Path) -> None:
        for name in ("kubectl", "etcd"):
            program(tmp_path / "path" / name)
        assert look_up("kubectl") == Found(tmp_path / "path" / "kubectl")
        assert isinstance(look_up("etcd"), Missing)

    def test_assets_come_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
        for name in ("kubectl", "etcd", "kube-apiserver", "gitea"):
            program(tmp_path / "assets" / name)
            program(self.cached(tmp_path, name))
        assert {name: look_up(name).path.parent.name for name in ("kubectl", "etcd", "kube-apiserver", "gitea")} == {
            "kubectl": "assets",
            "etcd": "assets",
            "kube-apiserver": "assets",
            "gitea": "bin",
        }
