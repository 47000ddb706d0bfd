"""Changes that must pass."""

import shutil

from bad_changes import both_environments
from models_repository import (
    MODEL,
    OTHER,
    OVERLAYS,
    REJECTED,
    STAGING,
    VERSION,
    Edit,
    Repository,
    weights,
)
from typer.testing import CliRunner

from backstay.cli.__main__ import app


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


def both_where_that_is_allowed(repository: Repository) -> None:
    repository.policy(oneEnvironmentAtATime="false")
    repository.before()
    both_environments(repository)


def a_full_list_of_rejections(repository: Repository) -> None:
    """The rollback that rejects one more takes the oldest out."""
    rejected = [{"version": str(100 + n), "rollbackID": f"{n:015x}a"} for n in range(50)]
    repository.model(rejectedVersions=rejected)
    repository.before()
    repository.model(rejectedVersions=[*rejected[1:], {"version": "200", "rollbackID": 16 * "f"}])


def environment_taken_away(repository: Repository) -> None:
    shutil.rmtree(repository.root / STAGING)
    (repository.root / f"applications/argocd/{MODEL}-staging.yaml").unlink()


def with_an_anchor(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    repository.edit(VERSION, f"metadata:\n  name: {MODEL}", f"metadata:\n  name: &name {MODEL}")
    repository.edit(VERSION, f"  model:\n    name: {MODEL}", "  model:\n    name: *name")


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
    "two environments, where the policy allows it": both_where_that_is_allowed,
    "one rejection more than fits": a_full_list_of_rejections,
    "an anchor": with_an_anchor,
    "who answers for it, where nobody did": lambda r: r.model(promotedBy="Robin Doe <robin@example.com>"),
    "another pattern of namespaces": lambda r: r.policy(namespaces="^prod-"),
    "no settings but one": lambda r: r.write(
        "policies/promotion/settings.yaml",
        "kind: ConfigMap\nmetadata: {name: backstay-promotion}\ndata: {namespaces: -production$}\n",
    ),
    "an environment taken away": environment_taken_away,
}
