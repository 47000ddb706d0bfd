"""The wheel carries what the command gives to people, and works away from the checkout."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it; the packages that it needs are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("backstay-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def backstay(installed: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backstay.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_has_schema_policy_monitoring_checks_and_templates(installed: Path) -> None:
    shipped = installed / "backstay" / "shipped"
    for path in (
        "operator/config/crd/modeldeployments.yaml",
        "policies/promotion/policy.yaml",
        "policies/promotion/settings.yaml",
        "monitoring/prometheus/scrape.yaml",
        *(f"pipelines/checks/{forge}.yaml" for forge in ("github", "gitlab", "gitea")),
    ):
        assert (shipped / path).read_text() == (ROOT / path).read_text()
    assert (installed / "backstay" / "templates" / "argocd" / "models.yaml").is_file()


def test_it_has_the_contract_beside_the_command_and_the_model_server(installed: Path) -> None:
    for package in ("backstay", "backstay_contract", "backstay_serving"):
        assert (installed / package / "__init__.py").is_file()


def test_a_repository_is_made_from_it(installed: Path, tmp_path: Path) -> None:
    options = ["--repository=https://git.example.com/models/gitops.git", "--registry=http://mlflow:5000"]
    options += ["--gateway=gateways/models", "--domain=example.com", "--model=fraud", "--forge=gitlab"]
    options += [f"--install-from=git+https://git.example.com/platform/backstay@{40 * 'a'}"]
    done = backstay(installed, "init", "made", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / ".gitlab-ci.yml").is_file()
    schema = "from backstay.adapters.policy.crd_schema import Schema; Schema.shipped()"
    place = f"import backstay; {schema}; print(backstay.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", place],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(said.strip()).is_relative_to(installed)


@pytest.fixture
def served(installed: Path) -> Iterator[tuple[str, str]]:
    """Serve the wheel; return its URL and its digest."""
    (wheel,) = installed.parent.glob("backstay-*.whl")
    handler = partial(SimpleHTTPRequestHandler, directory=str(wheel.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{wheel.name}"
        yield url, hashlib.sha256(wheel.read_bytes()).hexdigest()
        server.shutdown()
        thread.join()


def test_the_checks_of_a_new_repository_install_that_wheel_and_no_other(
    installed: Path, served: tuple[str, str], tmp_path: Path
) -> None:
    url, digest = served
    for name, expected, code in (("right", digest, 0), ("wrong", 64 * "0", 1)):
        options = ["--repository=https://git.example.com/models/gitops.git", "--registry=http://mlflow:5000"]
        options += ["--gateway=gateways/models", "--domain=example.com", "--model=fraud", "--forge=gitlab"]
        made = backstay(installed, "init", name, *options, f"--install-from={url}#sha256={expected}", folder=tmp_path)
        assert made.returncode == 0, made.stderr
        job = yaml.safe_load((tmp_path / name / ".gitlab-ci.yml").read_text())["backstay"]
        done = subprocess.run(
            ["sh", "-ec", job["script"][0]],
            cwd=tmp_path,
            env={
                **os.environ,
                "BACKSTAY_PACKAGE": job["variables"]["BACKSTAY_PACKAGE"],
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                # Beside the packages of this environment, and without the network.
                "PIP_TARGET": str(tmp_path / f"{name}-site"),
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PIP_NO_CACHE_DIR": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert (tmp_path / f"{name}-site" / "backstay").is_dir() is (name == "right")
    assert "DO NOT MATCH THE HASHES" in done.stderr
