"""What `backstay verify` says of changes, bad and good, in a repository as `backstay init` makes it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from backstay.cli.__main__ import app
from backstay_playground.build import binaries

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
MODEL = "fraud-detector"
OVERLAYS = f"applications/{MODEL}/overlays"
PRODUCTION, STAGING = f"{OVERLAYS}/production", f"{OVERLAYS}/staging"
VERSION = f"{PRODUCTION}/model-version.yaml"
DIGEST = "sha256:" + 64 * "a"
OTHER = "sha256:" + 64 * "b"
REJECTED = {"version": "3", "digest": OTHER, "rollbackID": "4a7d1ed414474e40"}


@dataclass(frozen=True)
class Repository:
    """A checkout on a branch of its own, to be changed."""

    root: Path

    def git(self, *arguments: str) -> str:
        person = {f"GIT_{role}_{key}": "someone" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments],
            env={**clean, **person},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.read(path)
        assert old in text
        self.write(path, text.replace(old, new))

    def model(self, path: str = VERSION, **fields: Any) -> None:
        """Set fields of spec.model; None takes one away."""
        document = yaml.safe_load(self.read(path))
        model = {**document["spec"]["model"], **fields}
        document["spec"]["model"] = {key: value for key, value in model.items() if value is not None}
        self.write(path, yaml.safe_dump(document, sort_keys=False))

    def settings(self, environment: str, change: Callable[[dict[str, Any]], None]) -> None:
        path = f"{OVERLAYS}/{environment}/settings.yaml"
        document = yaml.safe_load(self.read(path))
        change(document["spec"])
        self.write(path, yaml.safe_dump(document, sort_keys=False))

    def policy(self, **settings: str) -> None:
        path = "policies/promotion/settings.yaml"
        document = yaml.safe_load(self.read(path))
        document["data"].update(settings)
        self.write(path, yaml.safe_dump(document, sort_keys=False))

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")


@pytest.fixture(scope="module", autouse=True)
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "kustomize").symlink_to(binaries(["kustomize"], Console())["kustomize"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "models")
    options = ["--repository=https://git.example.com/models/gitops.git", "--registry=http://127.0.0.1:9"]
    options += ["--gateway=gateways/models", "--domain=example.com", f"--model={MODEL}", "--forge=gitea"]
    done = CliRunner().invoke(app, ["init", str(made.root), *options])
    assert done.exit_code == 0, done.output
    for path in (VERSION, f"{STAGING}/model-version.yaml"):
        made.model(path, digest=DIGEST, rejectedVersions=[REJECTED])
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit()
    made.git("checkout", "--quiet", "-b", "change")
    return made


def verify(repository: Repository, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    arguments = ["verify", str(repository.root), "--base=main", "--output=json", *options]
    done = CliRunner().invoke(app, arguments)
    document = json.loads(done.stdout) if done.stdout.startswith("{") else {"findings": []}
    return done.exit_code, document["findings"], done.output


Edit = Callable[[Repository], None]


def weights(*steps: int) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["rollout"].update(steps=[{"weight": step} for step in steps])


def link_out(repository: Repository) -> None:
    (repository.root / VERSION).unlink()
    (repository.root / VERSION).symlink_to("/etc/hostname")


def folder_link(repository: Repository) -> None:
    elsewhere = repository.root.parent / "elsewhere"
    (repository.root / PRODUCTION).rename(elsewhere)
    (repository.root / PRODUCTION).symlink_to(elsewhere)


def both_environments(repository: Repository) -> None:
    for place in (PRODUCTION, STAGING):
        repository.model(f"{place}/model-version.yaml", version="2", digest=OTHER)


def with_settings(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    repository.settings("production", weights(5, 100))


def copied_hostname(repository: Repository) -> None:
    repository.settings(
        "staging", lambda spec: spec["traffic"]["gatewayAPI"].update(hostnames=["fraud-detector.example.com"])
    )


def twice_the_same(repository: Repository) -> None:
    repository.edit(f"{STAGING}/kustomization.yaml", "fraud-detector-staging", "fraud-detector-production")


def asked(*, digest: str | None, **settings: str) -> "Edit":
    """Ask more by the policy, and bring a version."""

    def edit(repository: Repository) -> None:
        repository.policy(**settings)
        repository.model(version="2", digest=digest)

    return edit


BAD: dict[str, tuple[Edit, str, str]] = {
    "a rejected version": (
        lambda r: r.model(version="3", digest=OTHER),
        VERSION,
        "by rollback 4a7d1ed414474e40; declare another version, or lift the rejection by backstay retry fraud-detector",
    ),
    "a rejection is taken out": (
        lambda r: r.model(rejectedVersions=None),
        VERSION,
        "version 3 is no longer rejected; leave the entry, or lift it by backstay retry",
    ),
    "the digest of the version before": (
        lambda r: r.model(version="2"),
        VERSION,
        "version 2 has the digest of version 1; use backstay bump",
    ),
    "another digest of the same version": (
        lambda r: r.model(digest=OTHER),
        VERSION,
        "version 1 gets another digest; a version is for ever, so register a new one",
    ),
    "another model": (
        lambda r: r.model(name="credit-score"),
        VERSION,
        "spec.model.name becomes credit-score, not fraud-detector; a new model is a new application",
    ),
    "two environments at once": (both_environments, f"{STAGING}/model-version.yaml", "several environments at once"),
    "version and steps at once": (
        with_settings,
        VERSION,
        f"and touches {PRODUCTION}/settings.yaml as well; change the version alone",
    ),
    "a number": (lambda r: r.edit(VERSION, "version: '1'", "version: 1"), VERSION, "in quotes"),
    "no version": (lambda r: r.model(version=None), VERSION, "sets no spec.model.version"),
    "a digest that is none": (lambda r: r.model(digest="abc"), VERSION, "'abc' is not a digest: write sha256:"),
    "a version that is none": (lambda r: r.model(version="a b"), VERSION, "'a b' is not a version"),
    "a time that is none": (lambda r: r.model(promotedAt="yesterday"), VERSION, "'yesterday' is not a time"),
    "an unknown field of the model": (lambda r: r.model(colour="red"), VERSION, "spec.model.colour is not a field"),
    "broken YAML": (lambda r: r.write(VERSION, "spec: {model: ["), VERSION, "the version file is not YAML"),
    "not UTF-8": (lambda r: r.write(VERSION, b"spec: \xff\xfe"), VERSION, "is not UTF-8 text; save it as UTF-8"),
    "an empty file": (lambda r: r.write(VERSION, ""), VERSION, "holds 0 documents; keep exactly one ModelDeployment"),
    "two documents": (
        lambda r: r.write(VERSION, r.read(VERSION) + "---\n" + r.read(VERSION)),
        VERSION,
        "holds 2 documents; keep exactly one ModelDeployment",
    ),
    "a key twice": (
        lambda r: r.edit(VERSION, "    version: '1'\n", "    version: '1'\n    version: '2'\n"),
        VERSION,
        "version stands there twice; keep one of them",
    ),
    "another kind": (
        lambda r: r.edit(VERSION, "ModelDeployment", "Deployment"),
        VERSION,
        "is no patch of a ModelDeployment",
    ),
    "more than the model": (
        lambda r: r.write(VERSION, r.read(VERSION) + "  serving:\n    replicas: 1\n"),
        VERSION,
        "sets spec.serving besides spec.model; move that to settings.yaml",
    ),
    "labels in the version file": (
        lambda r: r.edit(VERSION, f"  name: {MODEL}\nspec", f"  name: {MODEL}\n  labels: {{a: b}}\nspec"),
        VERSION,
        "sets metadata.labels besides spec.model",
    ),
    "another object's name": (
        lambda r: r.edit(VERSION, f"metadata:\n  name: {MODEL}", "metadata:\n  name: other"),
        f"{PRODUCTION}/kustomization.yaml",
        "correct the folder so that it renders",
    ),
    "a symbolic link": (link_out, VERSION, "is a symbolic link; replace it by a regular file"),
    "a folder that is a link out of the repository": (folder_link, PRODUCTION, "is a link out of the repository"),
    "a huge file": (
        lambda r: r.write(VERSION, r.read(VERSION) + "# " + 300_000 * "x" + "\n"),
        VERSION,
        "bytes; it has at most 262144",
    ),
    "no version file": (lambda r: (r.root / VERSION).unlink(), VERSION, "there is no version file; add one"),
    "no kustomization": (
        lambda r: (r.root / f"{PRODUCTION}/kustomization.yaml").unlink(),
        PRODUCTION,
        "has no kustomization.yaml; add one that lists base and patches",
    ),
    "a remote base": (
        lambda r: r.edit(f"{PRODUCTION}/kustomization.yaml", "../../base", "https://git.example.com/base?ref=main"),
        f"{PRODUCTION}/kustomization.yaml",
        "comes from elsewhere and may change without a commit here; copy it in",
    ),
    "a base outside of the repository": (
        lambda r: r.edit(f"{PRODUCTION}/kustomization.yaml", "../../base", "../../../../../base"),
        f"{PRODUCTION}/kustomization.yaml",
        "lies outside of the repository; copy it in",
    ),
    "a base that is not there": (
        lambda r: r.edit(f"{PRODUCTION}/kustomization.yaml", "../../base", "../../bases"),
        f"{PRODUCTION}/kustomization.yaml",
        "correct the folder so that it renders",
    ),
    "a prefix": (
        lambda r: r.write(
            f"{PRODUCTION}/kustomization.yaml", r.read(f"{PRODUCTION}/kustomization.yaml") + "namePrefix: x-\n"
        ),
        f"{PRODUCTION}/kustomization.yaml",
        "use no namePrefix or nameSuffix, or rollbacks cannot find it",
    ),
    "no namespace": (
        lambda r: r.edit(f"{PRODUCTION}/kustomization.yaml", "namespace: fraud-detector-production\n", ""),
        f"{PRODUCTION}/kustomization.yaml",
        "the environment has no namespace; set namespace in the kustomization",
    ),
    "a version that does not arrive": (
        lambda r: r.edit(f"{PRODUCTION}/kustomization.yaml", "  - path: model-version.yaml # which version\n", ""),
        f"{PRODUCTION}/kustomization.yaml",
        "what model-version.yaml says does not arrive; list it last among the patches",
    ),
    "two ModelDeployments": (
        lambda r: r.write(
            f"applications/{MODEL}/base/modeldeployment.yaml",
            (text := r.read(f"applications/{MODEL}/base/modeldeployment.yaml"))
            + "---\n"
            + text.replace(MODEL, "second"),
        ),
        f"{PRODUCTION}/kustomization.yaml",
        "Kustomize makes 2 ModelDeployments of this folder; an environment is exactly one",
    ),
    "weights that fall": (
        lambda r: r.settings("production", weights(10, 5, 100)),
        PRODUCTION,
        "put the weights in rising order",
    ),
    "no full traffic": (
        lambda r: r.settings("production", weights(5, 50)),
        PRODUCTION,
        "add a step with weight: 100",
    ),
    "a duration that is none": (
        lambda r: r.settings("production", lambda spec: spec["rollout"].update(deadline="soon")),
        PRODUCTION,
        "'soon' is not a duration: write whole numbers with units",
    ),
    "an unknown setting": (
        lambda r: r.settings("production", lambda spec: spec.update(canary=True)),
        PRODUCTION,
        "spec.canary is not a field: there are",
    ),
    "an unknown word": (
        lambda r: r.settings("production", lambda spec: spec.update(rollback={"writeBack": "mail"})),
        PRODUCTION,
        "spec.rollback.writeBack is 'mail': choose one of commit, pullRequest",
    ),
    "the requests of another environment": (
        copied_hostname,
        STAGING,
        "requests for fraud-detector.example.com/ already go to",
    ),
    "another environment's object": (
        twice_the_same,
        STAGING,
        "fraud-detector-production/fraud-detector is also declared by",
    ),
    "too large a first step": (
        lambda r: r.settings("production", weights(50, 100)),
        VERSION,
        "the first step gives a new version more than 25 % of the traffic of fraud-detector-production",
    ),
    "no comparison": (
        lambda r: r.settings(
            "production",
            lambda spec: spec.update(
                analysis={"signals": [{"name": "limit", "objective": {"metric": "errorRatio", "max": 0.05}}]}
            ),
        ),
        VERSION,
        "no signal compares a new version with the running one in fraud-detector-production",
    ),
    "no digest, where one is asked for": (
        asked(digest=None, requireDigest="true"),
        VERSION,
        "version 2 has no digest, which fraud-detector-production asks for: bring it by backstay bump",
    ),
    "no lineage, where it is asked for": (
        asked(digest=OTHER, requireLineage="true"),
        VERSION,
        "version 2 lacks its lineage",
    ),
    "nobody who answers for it": (
        asked(digest=OTHER, requirePromotedBy="true"),
        VERSION,
        "nobody answers for version 2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_change_is_refused_with_what_mends_it(repository: Repository, case: str) -> None:
    edit, file, sentence = BAD[case]
    edit(repository)
    code, findings, output = verify(repository, "--offline")
    assert code == 1, output
    assert file in {one["file"] for one in findings if sentence in one["sentence"]}, findings


# What the API server refuses as well, in the same words.
AT_THE_SERVER = (
    "a digest that is none",
    "a version that is none",
    "a time that is none",
    "weights that fall",
    "no full traffic",
    "a duration that is none",
    "too large a first step",
    "no comparison",
    "no digest, where one is asked for",
    "no lineage, where it is asked for",
    "nobody who answers for it",
)


@pytest.fixture(scope="module")
def installed(bare_cluster: Any) -> Any:
    """Install CRD and policies as people do, and the namespace that is asked the most."""
    done = bare_cluster.kubectl("apply", "-k", str(ROOT))
    assert done.returncode == 0, done.stderr
    bare_cluster.kubectl("create", "namespace", f"{MODEL}-production")
    bare_cluster.kubectl("wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    return bare_cluster


def apply(cluster: Any, repository: Repository) -> tuple[int, str]:
    """Have the API server check what the production overlay makes, with the repository's settings of the policy."""
    settings = repository.read("policies/promotion/settings.yaml")
    assert cluster.kubectl("apply", "--filename=-", stdin=settings).returncode == 0
    manifest = subprocess.run(
        ["kustomize", "build", str(repository.root / PRODUCTION)], check=True, capture_output=True, text=True
    ).stdout
    done = cluster.kubectl("apply", "--dry-run=server", "--filename=-", stdin=manifest)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for the API server to take up a policy or its settings, which it does after a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("case", AT_THE_SERVER)
def test_the_api_server_refuses_it_in_the_same_words(installed: Any, repository: Repository, case: str) -> None:
    edit, _, sentence = BAD[case]
    edit(repository)

    def refused() -> bool:
        code, said = apply(installed, repository)
        return code != 0 and sentence in said

    assert eventually(refused), apply(installed, repository)


def test_the_api_server_accepts_what_verify_lets_pass(installed: Any, repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    assert eventually(lambda: apply(installed, repository)[0] == 0), apply(installed, repository)


def test_a_rollback_gets_through_whatever_the_policy_asks_for_by_now(installed: Any, repository: Repository) -> None:
    """What is stable already may be declared, or tightening the policy would make rollbacks impossible."""
    repository.model(digest=None, rejectedVersions=None)
    assert eventually(lambda: apply(installed, repository)[0] == 0), apply(installed, repository)
    manifest = subprocess.run(
        ["kustomize", "build", str(repository.root / PRODUCTION)], check=True, capture_output=True
    )
    assert installed.kubectl("apply", "--filename=-", stdin=manifest.stdout.decode()).returncode == 0
    place = ("mdep", MODEL, f"--namespace={MODEL}-production")
    status = {"status": {"phase": "Stable", "weight": 100, "stable": {"version": "1", "revision": "r1"}}}
    done = installed.kubectl("patch", *place, "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")
    assert done.returncode == 0, done.stderr
    repository.policy(requireDigest="true")
    repository.model(version="2")
    assert eventually(lambda: "has no digest" in apply(installed, repository)[1]), apply(installed, repository)
    repository.model(version="1", rejectedVersions=[REJECTED])
    code, said = apply(installed, repository)
    assert code == 0, said
    installed.kubectl("delete", *place)


def new_environment(repository: Repository) -> None:
    for name in ("kustomization.yaml", "settings.yaml", "model-version.yaml"):
        text = repository.read(f"{STAGING}/{name}").replace("staging", "preview")
        repository.write(f"{OVERLAYS}/preview/{name}", text)


def another_model(repository: Repository) -> None:
    done = CliRunner().invoke(app, ["add", "credit-score", f"--repository={repository.root}"])
    assert done.exit_code == 0, done.output


def with_windows_lines(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    repository.write(VERSION, repository.read(VERSION).replace("\n", "\r\n"))


OWN_WAY = f"""\
# ours
apiVersion: backstay.dev/v1alpha1
metadata: {{name: {MODEL}}}
kind: ModelDeployment
spec:
  model:
    version: "2" # the better one
    name: {MODEL}
    digest: {OTHER}
    rejectedVersions:
      - {{version: "3", digest: "{OTHER}", rollbackID: 4a7d1ed414474e40}}
"""

GOOD: dict[str, Edit] = {
    "nothing": lambda _: None,
    "a new version": lambda r: r.model(version="2", digest=OTHER),
    "a new version with all that is known of it": lambda r: r.model(
        version="2",
        digest=OTHER,
        codeCommit=40 * "c",
        dataChecksum="sha256:" + 64 * "d",
        runID="r1",
        featureSchemaVersion="3",
        promotedBy="Robin Doe <robin@example.com>",
        promotedAt="2026-03-01T09:30:00Z",
    ),
    "a time without quotes": lambda r: r.write(VERSION, r.read(VERSION) + "    promotedAt: 2026-03-01T09:30:00Z\n"),
    "an older version": lambda r: r.model(version="0", digest=OTHER),
    "a rejected version with its retry": lambda r: r.model(version="3", digest=OTHER, retryOf="4a7d1ed414474e40"),
    "a rejection that a retry lifts": lambda r: r.model(
        version="3", digest=OTHER, retryOf="4a7d1ed414474e40", rejectedVersions=None
    ),
    "comments and another order": lambda r: r.write(VERSION, OWN_WAY),
    "Windows' line ends": with_windows_lines,
    "other steps": lambda r: r.settings("production", weights(1, 10, 50, 100)),
    "any first step in staging": lambda r: r.settings("staging", weights(90, 100)),
    "a new environment": new_environment,
    "another model with both of its environments": another_model,
    "a file that is not about models": lambda r: r.write("docs/notes.md", "notes\n"),
    "a rollback's rejection": lambda r: r.model(
        rejectedVersions=[REJECTED, {"version": "2", "digest": OTHER, "rollbackID": 16 * "e"}]
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_change_passes(repository: Repository, case: str) -> None:
    GOOD[case](repository)
    code, findings, output = verify(repository, "--offline")
    assert (code, findings) == (0, []), output


def test_committed_and_uncommitted_changes_count_alike(repository: Repository) -> None:
    repository.model(version="3", digest=OTHER)
    before = verify(repository, "--offline")
    repository.commit()
    assert verify(repository, "--offline") == before


# What the registry has to say.


@pytest.fixture
def registered(registry: Any, tmp_path: Path) -> Callable[..., str]:
    """Register a version, and return its number."""

    def register(**said: Any) -> str:
        made: str = registry.register(folder=tmp_path / "artifacts", **said)
        return made

    return register


def tell(repository: Repository, registry: Any, sentence: str) -> None:
    code, findings, output = verify(repository, f"--registry={registry.uri}")
    assert code == 1, output
    assert [one["file"] for one in findings if sentence in one["sentence"]] == [VERSION], findings


def test_a_version_that_the_registry_does_not_have_is_refused(repository: Repository, registry: Any) -> None:
    repository.model(version="77", digest=OTHER)
    tell(repository, registry, f"has no version 77 of {MODEL}: register it, or name another")


def test_a_version_that_is_not_ready_is_refused(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    version = registered()
    registry.spoil(version)
    repository.model(version=version + "", digest=OTHER)
    repository.git("commit", "--quiet", "--all", "--message=x")
    tell(repository, registry, "FAILED_REGISTRATION in the registry; wait until it is READY")


def test_a_digest_that_the_registry_contradicts_is_refused(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    version = registered(tags={"backstay.dev/digest": DIGEST})
    repository.model(version=version, digest=OTHER)
    tell(repository, registry, f"digest is {OTHER}, and the registry has {DIGEST} of version {version}")


def test_lineage_that_the_registry_contradicts_is_refused(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    version = registered(run_tags={"mlflow.source.git.commit": 40 * "a"})
    repository.model(version=version, digest=OTHER, codeCommit=40 * "b")
    tell(repository, registry, f"codeCommit is {40 * 'b'}, and the registry has {40 * 'a'}")


def test_an_unapproved_version_is_refused_where_approval_is_asked_for(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    version = registered(tags={"eval.approved": "false"})
    repository.policy(requiredTags="eval.approved=true")
    repository.commit()
    repository.git("branch", "--force", "main")
    repository.model(version=version, digest=OTHER)
    tell(repository, registry, "has eval.approved = 'false', and the policy asks for 'true'; have it evaluated first")
    repository.model(f"{STAGING}/model-version.yaml", version=version, digest=OTHER)
    repository.git("checkout", "--quiet", "--", VERSION)
    code, findings, output = verify(repository, f"--registry={registry.uri}")
    assert (code, findings) == (0, []), output


def test_a_version_as_the_registry_has_it_passes_and_is_told_in_a_comment(
    repository: Repository, registry: Any, registered: Callable[..., str], tmp_path: Path
) -> None:
    registered(metrics={"auc": 0.91})
    version = registered(metrics={"auc": 0.93}, tags={"backstay.dev/digest": OTHER, "eval.approved": "true"})
    repository.model(version=version, digest=OTHER)
    code, findings, output = verify(
        repository, f"--registry={registry.uri}", f"--comment-file={tmp_path / 'comment.md'}"
    )
    assert (code, findings) == (0, []), output
    comment = (tmp_path / "comment.md").read_text()
    assert "### fraud-detector in production" in comment
    assert "| `version` | `1` | `2` |" in comment
    assert "+0.02" in comment


def test_a_registry_that_does_not_answer_is_neither_yes_nor_no(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    code, findings, output = verify(repository)
    assert (code, findings) == (3, [])
    assert "does not answer for version 2 of fraud-detector" in output


# How it is told, and what cannot be checked at all.


def test_findings_become_annotations(repository: Repository) -> None:
    repository.edit(VERSION, "    version: '1'\n", "    version: '1'\n    version: '2'\n")
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", "--output=github"])
    line = next(n for n, text in enumerate(repository.read(VERSION).splitlines(), start=1) if "version: '2'" in text)
    assert f"::error file={VERSION},line={line}::version stands there twice; keep one of them" in done.stdout
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", "--output=gitlab"])
    (entry,) = json.loads(done.stdout)
    assert entry["location"] == {"path": VERSION, "lines": {"begin": line}}
    assert entry["severity"] == "blocker"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--base=nowhere"], "the base nowhere cannot be told"),
        (["--base=--output=x"], "cannot be a base"),
        (["--comment-file=x.md"], "--comment-file needs --base"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence(repository: Repository, options: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", *options])
    assert done.exit_code == 2, done.output
    assert complaint in done.stderr


def test_a_folder_without_applications_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 2
    assert "has no applications/*/overlays/*: name a checkout of the GitOps repository" in done.stderr


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        (
            "settings.yaml",
            "data: {largestFirstStep: 25}",
            "largestFirstStep in policies/promotion/settings.yaml is no text",
        ),
        ("settings.yaml", "data: {colour: red}", "has no setting 'colour': there are"),
        ("settings.yaml", "[]", "is no ConfigMap with data: restore it"),
        ("policy.yaml", "kind: ConfigMap", "is no ValidatingAdmissionPolicy"),
    ],
)
def test_a_broken_policy_is_refused(repository: Repository, file: str, text: str, complaint: str) -> None:
    repository.write(f"policies/promotion/{file}", text)
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline"])
    assert done.exit_code == 2
    assert complaint in done.stderr


def commands(document: Any) -> list[str]:
    """Find the commands of a workflow that are ours."""
    match document:
        case dict():
            return [found for value in document.values() for found in commands(value)]
        case list():
            return [found for value in document for found in commands(value)]
        case str() if document.startswith("backstay "):
            return [document]
        case _:
            return []


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"])
def test_the_command_of_a_workflow_says_what_is_to_be_mended(
    repository: Repository, registry: Any, forge: str, tmp_path: Path
) -> None:
    """As the runner's shell gives it, with the variables that the workflow sets."""
    (command,) = commands(yaml.safe_load((ROOT / "pipelines" / "checks" / f"{forge}.yaml").read_text()))
    repository.model(version="77", digest=OTHER)
    repository.commit()
    variables = {
        "BASE": "main",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": "main",
        "MLFLOW_TRACKING_URI": registry.uri,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["sh", "-c", command], cwd=repository.root, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "has no version 77" in repository.read("comment.md")
    told = repository.read("quality.json") if forge == "gitlab" else done.stdout
    assert VERSION in told
