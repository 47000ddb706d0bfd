"""Controller, model server and training keep to the contract, and spell none of its names themselves."""

import ast
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from backstay.controller.evidence.profiles import METRICS as READ
from backstay.domain.signals import Profile
from backstay_contract import digest, environment, locations, metrics, profile, tags
from backstay_serving.metrics import make_metrics
from backstay_serving.settings import Identity

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "serving" / "src" / "backstay_contract"
KEEPERS = [ROOT / "operator" / "src", ROOT / "serving" / "src" / "backstay_serving", ROOT / "pipelines"]
SERIES = metrics.METRICS | {f"{name}_{end}" for name in metrics.HISTOGRAMS for end in ("bucket", "count", "sum")}
# These also name what the controller, and MLflow's client, are told themselves.
COMMON = {environment.TRACKING_URI, environment.PORT, environment.POD_IP}
TAGS = {value for name, value in vars(tags).items() if name.isupper()}
NAMES = (environment.VARIABLES - COMMON) | TAGS | {profile.NAME, digest.DOWNLOAD_MARK, locations.PROXY}


def constants(source: Path) -> Iterator[str]:
    """Yield the texts in a module's code, without its docstrings."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def spelled(text: str) -> set[str]:
    """Return the names of the contract that a text of the code spells."""
    return {name for name in re.findall(r"\w+", text) if name in SERIES} | (NAMES & {text})


def test_names_of_the_contract_are_spelled_nowhere_else() -> None:
    sources = sorted(chain.from_iterable(folder.rglob("*.py") for folder in KEEPERS))
    assert sources
    found = {
        (source.relative_to(ROOT).as_posix(), name)
        for source in sources
        for text in constants(source)
        for name in spelled(text)
    }
    assert found == set()


def test_the_contract_needs_nothing_but_the_standard_library() -> None:
    known = sys.stdlib_module_names | {"backstay_contract"}
    for source in CONTRACT.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {module.partition(".")[0] for module in modules} <= known, source


def test_the_model_server_exports_the_metrics_of_the_contract() -> None:
    exported: dict[str, set[str]] = {"counter": set(), "histogram": set(), "gauge": set()}
    for family in make_metrics(Identity("fraud", "7", "1"), ()).registry.collect():
        if not family.name.startswith("process_"):
            exported[family.type].add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert exported == {"counter": metrics.COUNTERS, "histogram": metrics.HISTOGRAMS, "gauge": metrics.GAUGES}


def test_the_controller_reads_metrics_of_the_contract() -> None:
    read = READ[Profile.BACKSTAY]
    pairs = chain.from_iterable((pair.events, pair.total) for pair in read.events.values())
    templates = [read.requests, read.present, read.duration, *pairs, *read.measures.values()]
    named = set(re.findall(r"\bbackstay_\w+", " ".join(templates)))
    assert {metrics.REQUESTS, metrics.ERRORS} <= named <= SERIES
