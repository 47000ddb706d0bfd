"""What `backstay init` and `backstay add` write."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from backstay.adapters.gitops.version_file import read_version_file
from backstay.cli.__main__ import app
from backstay.cli.start.scaffold import Defaults, Model, ScaffoldError, model_files, repository_files

ROOT = Path(__file__).parents[3]
EXAMPLE = Defaults(
    repository="http://gitea.forge:3000/models/models.git",
    registry="http://mlflow.mlops:5000",
    gateway="gateways/models",
    domain="example.com",
    namespace="fraud-{environment}",
)
OPTIONS = [
    "--repository=https://git.example.com/models/gitops.git",
    "--registry=http://mlflow.mlops:5000",
    "--gateway=gateways/models",
    "--domain=example.com",
    "--model=fraud-detector",
]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def written_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_example_in_the_checkout_is_what_the_templates_make() -> None:
    model = model_files(EXAMPLE, Model("fraud-detector", "fraud-detector", "1"))
    application = {"applications/argocd/models.yaml": repository_files(EXAMPLE)["applications/argocd/models.yaml"]}
    made = {**model, **application}
    there = written_below(ROOT / "applications") - {"README.md"}
    assert {f"applications/{path}" for path in there} == set(made)
    assert {path: (ROOT / path).read_text() for path in made} == made


def test_every_environment_gets_its_namespace_hostname_version_and_application() -> None:
    defaults = Defaults(
        repository="https://git.example.com/models/gitops.git",
        registry="https://mlflow.example.com",
        gateway="edge/public",
        domain="models.example.com",
        environments=("dev", "staging", "live"),
    )
    made = model_files(defaults, Model("credit-score", "Credit score", "12"))
    for environment, hostname in (
        ("dev", "dev.credit-score.models.example.com"),
        ("staging", "staging.credit-score.models.example.com"),
        ("live", "credit-score.models.example.com"),
    ):
        overlay = f"applications/credit-score/overlays/{environment}"
        kustomization = yaml.safe_load(made[f"{overlay}/kustomization.yaml"])
        assert kustomization["namespace"] == f"credit-score-{environment}"
        settings = yaml.safe_load(made[f"{overlay}/settings.yaml"])
        assert settings["spec"]["traffic"]["gatewayAPI"]["hostnames"] == [hostname]
        declared = read_version_file(made[f"{overlay}/model-version.yaml"].encode(), name="credit-score")
        assert (declared.identity.name, declared.identity.version) == ("Credit score", "12")
        delivered = yaml.safe_load(made[f"applications/argocd/credit-score-{environment}.yaml"])
        assert delivered["spec"]["source"]["path"] == overlay
        assert delivered["spec"]["destination"]["namespace"] == f"credit-score-{environment}"
    (base,) = [text for path, text in made.items() if path.endswith("modeldeployment.yaml")]
    spec = yaml.safe_load(base)["spec"]
    assert spec["registry"]["uri"] == "https://mlflow.example.com"
    assert spec["traffic"]["gatewayAPI"]["gateway"] == {"name": "public", "namespace": "edge"}


def test_the_defaults_come_back_as_they_were_written() -> None:
    assert Defaults.parse(EXAMPLE.text()) == EXAMPLE


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"repository": "not a url"}, "'not a url' is not a URL"),
        ({"registry": "mlflow"}, "'mlflow' is not a registry's URL"),
        ({"gateway": "models"}, "'models' names no Gateway: write it as namespace/name"),
        ({"gateway": "a/b\n  evil: true"}, "names no Gateway"),
        ({"domain": "exam ple"}, "'exam ple' is not a domain"),
        ({"image": "a b"}, "'a b' is not an image"),
        ({"namespace": "{model.__class__}"}, "makes no namespace"),
        ({"namespace": "{other}"}, "makes no namespace"),
        ({"namespace": "Models"}, "makes no namespace"),
        ({"environments": ()}, "at least one environment"),
        ({"environments": ("Staging",)}, "'Staging' is not an environment's name"),
    ],
)
def test_a_value_that_cannot_be_one_is_named(change: dict[str, object], complaint: str) -> None:
    values: dict[str, object] = {"repository": "https://git.example.com/m.git", "registry": "http://mlflow:5000"}
    values |= {"gateway": "gateways/models", "domain": "example.com"}
    with pytest.raises(ScaffoldError) as refused:
        Defaults(**(values | change))  # type: ignore[arg-type]  # some are wrong on purpose
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "model", [("Fraud", "x", "1"), ("fraud", "a: b", "1"), ("fraud", "x", '1"'), ("f" * 41, "x", "1")]
)
def test_a_model_that_cannot_be_one_is_refused(model: tuple[str, str, str]) -> None:
    with pytest.raises(ScaffoldError):
        Model(*model)


def test_a_repository_is_made_and_a_model_is_added_to_it(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    code, output = run("init", str(tmp_path), *OPTIONS)
    assert code == 0, output
    before = written_below(tmp_path)
    assert {
        "README.md",
        "backstay.yaml",
        "applications/argocd/models.yaml",
        "monitoring/prometheus/scrape.yaml",
    } <= before
    code, output = run("add", "credit-score", f"--repository={tmp_path}", "--version=3")
    assert code == 0, output
    added = written_below(tmp_path) - before
    assert all("credit-score" in path for path in added)
    assert {path.replace("credit-score", "fraud-detector") for path in added} <= before
    assert (tmp_path / "README.md").read_text() == "mine"


def test_what_is_there_already_stays_as_it_is_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    mine = tmp_path / "backstay.yaml"
    mine.write_text("mine")
    code, output = run("init", str(tmp_path), *OPTIONS)
    assert code == 2
    assert f"{mine} exists already, so nothing was written" in output.replace("\n", " ")
    assert written_below(tmp_path) == {"backstay.yaml"}
    assert mine.read_text() == "mine"


def test_a_model_is_not_added_twice(tmp_path: Path) -> None:
    run("init", str(tmp_path), *OPTIONS)
    before = {path: (tmp_path / path).read_bytes() for path in written_below(tmp_path)}
    code, output = run("add", "fraud-detector", f"--repository={tmp_path}")
    assert code == 2
    assert "exists already" in output
    assert {path: (tmp_path / path).read_bytes() for path in written_below(tmp_path)} == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "backstay init made"),
        ("{", "is not YAML"),
        ("[]", "holds something else"),
        ("registry: http://mlflow:5000", "lacks domain, gateway, repository"),
        ("{repository: 1, registry: 2, gateway: 3, domain: 4}", "no text: put it in quotes"),
    ],
)
def test_a_repository_without_usable_defaults_is_refused(tmp_path: Path, text: str | None, complaint: str) -> None:
    if text is not None:
        (tmp_path / "backstay.yaml").write_text(text)
    code, output = run("add", "credit-score", f"--repository={tmp_path}")
    assert code == 2
    assert complaint in " ".join(output.split())
    assert written_below(tmp_path) <= {"backstay.yaml"}
