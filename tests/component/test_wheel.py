"""The wheel carries what the command gives to people, and works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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


def test_a_repository_is_made_from_it(installed: Path, tmp_path: Path) -> None:
    options = ["--repository=https://git.example.com/models/gitops.git", "--registry=http://mlflow:5000"]
    options += ["--gateway=gateways/models", "--domain=example.com", "--model=fraud", "--forge=gitlab"]
    done = backstay(installed, "init", "made", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / ".gitlab-ci.yml").is_file()
    place = "import backstay, sys; from backstay.adapters.crd import Schema; Schema.shipped(); print(backstay.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", place],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(said.strip()).is_relative_to(installed)
