"""The documentation says what the code does: links, examples, reasons, variables and metrics."""

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from backstay.domain.resource import KIND, ApprovalStep, ModelDeployment
from backstay_contract import environment
from backstay_contract.metrics import METRICS

ROOT = Path(__file__).parents[2]
# Not below .venv and other folders that are nobody's text.
FOLDERS = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
PAGES = sorted(chain(ROOT.glob("*.md"), chain.from_iterable(folder.rglob("*.md") for folder in FOLDERS)))
NAMING = [page for page in [*PAGES, *sorted((ROOT / "monitoring").rglob("*.yaml"))] if "backstay_" in page.read_text()]
OPERATOR = ROOT / "operator" / "src"
MODULES = {path.name for path in ROOT.glob("*/src/backstay_*")}
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
STALLS = (ROOT / "docs" / "how-to" / "when-a-rollback-happened.md").read_text()
CRD = yaml.safe_load((ROOT / "operator" / "config" / "crd" / "modeldeployments.yaml").read_text())
SCHEMA: dict[str, Any] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(page: Path) -> Iterator[dict[str, Any]]:
    """Yield a page's YAML examples that are about a ModelDeployment, whole or a part of its spec."""
    for indent, language, text in FENCE.findall(page.read_text()):
        if language != "yaml":
            continue
        for document in yaml.safe_load_all(re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)):
            if document.get("kind", KIND) == KIND and "spec" in document:
                yield document


def filled_in(schema: Mapping[str, Any], value: Any, path: str = "") -> Any:
    """Do to a value what the API server does: refuse unknown fields, fill in defaults."""
    if isinstance(value, list):
        return [filled_in(schema["items"], entry, f"{path}[]") for entry in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    known = schema["properties"]
    unknown = value.keys() - known.keys()
    assert not unknown or schema.get("x-kubernetes-preserve-unknown-fields"), f"{path} has no {unknown}"
    defaults = {name: field["default"] for name, field in known.items() if "default" in field}
    return {
        name: filled_in(known.get(name, {}), entry, f"{path}.{name}") for name, entry in {**defaults, **value}.items()
    }


def missing(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Yield the required fields that a value lacks."""
    if isinstance(value, list):
        yield from chain.from_iterable(missing(schema["items"], entry, f"{path}[]") for entry in value)
    if isinstance(value, dict):
        yield from (f"{path}.{name}" for name in schema.get("required", ()) if name not in value)
        for name, entry in value.items():
            yield from missing(schema.get("properties", {}).get(name, {}), entry, f"{path}.{name}")


def calls(function: str) -> Iterator[ast.Call]:
    """Yield the calls of a function or method of that name in the operator's code."""
    for source in OPERATOR.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == function:
                yield node


def words(node: ast.AST) -> set[str]:
    """Return the strings that an expression can be, where it is a constant or a choice of constants."""
    match node:
        case ast.Constant(value=str(word)) if word:
            return {word}
        case ast.IfExp(body=one, orelse=other):
            return words(one) | words(other)
        case _:
            return set()


def stalled_reasons() -> set[str]:
    """Collect what the code passes as ``stalled``, directly, by a local variable, or as what blocks pods."""
    reasons = {word for call in calls("Blocked") for word in words(call.args[0])}
    for source in OPERATOR.rglob("*.py"):
        for function in ast.walk(ast.parse(source.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            local = {
                target.id: words(node.value)
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            passed = [
                node.value for node in ast.walk(function) if isinstance(node, ast.keyword) and node.arg == "stalled"
            ]
            for value in passed:
                reasons |= local.get(value.id, set()) if isinstance(value, ast.Name) else words(value)
    return reasons


def variables() -> set[str]:
    """Collect the environment variables that the controller's code names."""
    named = set()
    for source in OPERATOR.rglob("*.py"):
        text = source.read_text()
        named |= set(re.findall(r"\bBACKSTAY_[A-Z_]+[A-Z]\b", text))
        named |= set(re.findall(r"""(?:environ\.\w+\(|environ\[|text\()["']([A-Z_]+)["']""", text))
    return named


def metrics(source: Path) -> list[str]:
    """Collect the metrics that a module makes."""
    return sorted(set(re.findall(r'"(backstay_\w+)"', source.read_text())))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_declares_a_model_that_the_crd_and_the_controller_take() -> None:
    (document,) = [example for example in examples(ROOT / "README.md") if example.get("kind") == KIND]
    assert not list(missing(SCHEMA, document))
    metadata = {**document["metadata"], "uid": "u", "generation": 1}
    spec = filled_in(SCHEMA["properties"]["spec"], document["spec"], "spec")
    parsed = ModelDeployment.of({"metadata": metadata, "spec": spec})
    assert parsed.plan.model.version == "7"
    assert ApprovalStep() in parsed.plan.rollout.steps
    assert [signal.name for signal in parsed.plan.analysis.signals] == ["errors", "error-limit"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_name_fields_that_exist(page: Path) -> None:
    for example in examples(page):
        filled_in(SCHEMA["properties"]["spec"], example["spec"], "spec")


@pytest.mark.parametrize("reason", sorted(stalled_reasons()))
def test_every_reason_to_stall_says_what_to_do(reason: str) -> None:
    assert f"| `{reason}` |" in STALLS


def test_the_reasons_are_found_in_the_code() -> None:
    assert {"AwaitingSync", "Blocked", "ImagePull", "MemoryUnavailable"} <= stalled_reasons()


@pytest.mark.parametrize("variable", sorted(variables()))
def test_every_variable_is_in_the_reference(variable: str) -> None:
    assert f"`{variable}`" in REFERENCE


@pytest.mark.parametrize("metric", metrics(OPERATOR / "backstay" / "controller" / "runtime" / "metrics.py"))
def test_every_metric_of_the_controller_is_in_the_reference(metric: str) -> None:
    assert f"| `{metric}` |" in REFERENCE


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_of_the_model_server_is_with_the_scrape_configuration(metric: str) -> None:
    assert f"| `{metric}` |" in (ROOT / "monitoring" / "prometheus" / "README.md").read_text()


@pytest.mark.parametrize("page", NAMING, ids=lambda page: str(page.relative_to(ROOT)))
def test_metrics_that_pages_and_alerts_name_exist(page: Path) -> None:
    controllers = metrics(OPERATOR / "backstay" / "controller" / "runtime" / "metrics.py")
    known = {*METRICS, *controllers, *MODULES}
    known |= {f"{name}_{end}" for name in known for end in ("bucket", "count", "sum")}
    assert set(re.findall(r"\bbackstay_\w+", page.read_text())) - known == set()


@pytest.mark.parametrize("variable", sorted(environment.VARIABLES))
def test_every_variable_of_a_pod_is_with_what_it_is_told(variable: str) -> None:
    assert f"`{variable}`" in (ROOT / "docs" / "how-to" / "bring-your-own-model-server.md").read_text()


@pytest.mark.parametrize("reason", sorted({word for call in calls("announce") for word in words(call.args[0])}))
def test_every_event_is_in_the_reference(reason: str) -> None:
    assert f"| `{reason}`" in REFERENCE


def test_every_variable_of_the_playground_is_in_its_how_to() -> None:
    page = (ROOT / "docs" / "how-to" / "playground.md").read_text()
    code = (ROOT / "playground" / "src").rglob("*.py")
    named = set(chain.from_iterable(re.findall(r"\bBACKSTAY_[A-Z_]*[A-Z]\b", source.read_text()) for source in code))
    elsewhere = {name for name in named if f"`{name}`" in REFERENCE}
    assert {name for name in named - elsewhere if f"`{name}`" not in page} == set()
