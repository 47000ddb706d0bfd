from typing import Any

import pytest

from backstay.adapters.argocd import (
    ApplicationRef,
    Source,
    SourceProblem,
    refresh_patch,
    refreshes,
    source_of,
    sync_state,
    tracking_application,
)

WHO = {"group": "backstay.dev", "kind": "ModelDeployment", "namespace": "fraud-production", "name": "fraud-detector"}
URL = "http://gitea.forge:3000/models/models.git"
PATH = "applications/fraud-detector/overlays/production"


def tracked(value: str) -> ApplicationRef | None:
    return tracking_application({"argocd.argoproj.io/tracking-id": value}, **WHO, default_namespace="argocd")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (
            "fraud-production:backstay.dev/ModelDeployment:fraud-production/fraud-detector",
            ApplicationRef("argocd", "fraud-production"),
        ),
        ("team_fraud:backstay.dev/ModelDeployment:fraud-production/fraud-detector", ApplicationRef("team", "fraud")),
        ("fraud:backstay.dev/ModelDeployment:fraud-production/another", None),
        ("fraud:backstay.dev/ModelDeployment:fraud-staging/fraud-detector", None),
        ("fraud:apps/Deployment:fraud-production/fraud-detector", None),
        ("fraud", None),
        (":backstay.dev/ModelDeployment:fraud-production/fraud-detector", None),
        ("_fraud:backstay.dev/ModelDeployment:fraud-production/fraud-detector", None),
        ("", None),
    ],
)
def test_the_annotation_is_believed_only_about_this_object(value: str, found: ApplicationRef | None) -> None:
    assert tracked(value) == found


def test_an_object_without_the_annotation_has_no_application() -> None:
    assert tracking_application({}, **WHO, default_namespace="argocd") is None


def application(**spec: Any) -> dict[str, Any]:
    status = spec.pop("status", {})
    return {
        "metadata": {"namespace": "argocd", "name": "fraud-detector-production"},
        "spec": {
            "source": {"repoURL": URL, "targetRevision": "main", "path": PATH},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "fraud-production"},
            **spec,
        },
        "status": {
            "resources": [{**WHO, "version": "v1alpha1", "status": "Synced"}],
            "sourceType": "Kustomize",
            **status,
        },
    }


def source(**changes: Any) -> dict[str, Any]:
    return application(source={"repoURL": URL, "targetRevision": "main", "path": PATH, **changes})


@pytest.mark.parametrize(
    ("given", "branch"),
    [
        ("main", "main"),
        ("HEAD", ""),
        ("", ""),
        (None, ""),
        ("refs/heads/team/x", "team/x"),
        ("release-1.2", "release-1.2"),
    ],
)
def test_a_branch_is_taken_as_it_is(given: str | None, branch: str) -> None:
    assert source_of(source(targetRevision=given), **WHO) == Source(URL, branch, PATH)


def test_the_one_source_with_a_path_counts() -> None:
    sources = [
        {"repoURL": "https://charts.example.com", "chart": "x", "targetRevision": "1.0.0"},
        {"repoURL": "http://gitea.forge:3000/models/values.git", "ref": "values"},
        {"repoURL": URL, "targetRevision": "main", "path": PATH},
    ]
    several = application(sources=sources, status={"sourceTypes": ["Helm", "", "Directory"]})
    assert source_of(several, **WHO) == Source(URL, "main", PATH)


def test_this_cluster_may_be_given_by_name() -> None:
    assert isinstance(source_of(application(destination={"name": "in-cluster"}), **WHO), Source)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (source(targetRevision="refs/tags/v1"), "follows the tag refs/tags/v1; set its targetRevision to a branch"),
        (source(targetRevision="refs/pull/1/head"), "follows the reference refs/pull/1/head"),
        (source(targetRevision="4084faebe422f33aec5a3d352a094a550e017aa6"), "follows the commit 4084fae"),
        (source(targetRevision="4084fae"), "follows the commit 4084fae"),
        (source(targetRevision="v1.2.3"), "follows the version range or tag v1.2.3"),
        (source(targetRevision="1.2.x"), "follows the version range or tag 1.2.x"),
        (source(targetRevision=">=1.2"), "follows the version range or tag >=1.2"),
        (source(chart="x"), "renders its source with Helm"),
        (source(helm={"valueFiles": ["x"]}), "renders its source with Helm"),
        (application(status={"sourceType": "Plugin"}), "renders its source with Plugin; use Kustomize or plain"),
        (application(source={"repoURL": "https://charts.example.com", "chart": "x"}), "installs a Helm chart"),
        (application(source=None), "has no sources with a path; give it exactly one"),
        (
            application(sources=[{"repoURL": URL, "path": "a"}, {"repoURL": URL, "path": "b"}]),
            "has 2 sources with a path; give it exactly one Git source",
        ),
        (source(repoURL="file:///srv/models.git"), "reads a local folder"),
        (source(repoURL="oci://example.com/x"), "cannot be written to: oci://example.com/x is not a repository"),
        (source(repoURL="https://u:secret@example.com/a?b"), "cannot be written to: https://example.com/a"),
        (application(sourceHydrator={"drySource": {"repoURL": URL}}), "source hydrator"),
        (application(destination={"server": "https://10.0.0.1"}), "deploys to another cluster"),
        (application(destination={"name": "edge"}), "deploys to another cluster"),
        (application(destination={"server": "https://10.0.0.1", "name": "in-cluster"}), "deploys to another cluster"),
        (application(status={"resources": []}), "does not list ModelDeployment fraud-production/fraud-detector"),
        (application(status={"resources": None}), "does not list ModelDeployment"),
        (application(status={"resources": [{**WHO, "name": "another"}]}), "does not list ModelDeployment"),
        ({}, "does not list ModelDeployment"),
    ],
)
def test_what_cannot_be_written_to_is_explained(given: dict[str, Any], says: str) -> None:
    problem = source_of(given, **WHO)
    assert isinstance(problem, SourceProblem)
    assert problem.sentence.startswith("The Argo CD Application ")
    assert says in problem.sentence
    assert "secret" not in problem.sentence


def test_the_state_of_a_sync_is_read() -> None:
    state = sync_state(
        application(
            syncPolicy={"automated": {}},
            status={
                "sync": {"status": "OutOfSync", "revision": "a1"},
                "health": {"status": "Progressing"},
                "operationState": {"phase": "Running", "message": "waiting", "syncResult": {"revision": "a0"}},
            },
        )
    )
    assert (state.revision, state.operation_revision, state.phase) == ("a1", "a0", "Running")
    assert (state.sync_status, state.health, state.message, state.automated) == (
        "OutOfSync",
        "Progressing",
        "waiting",
        True,
    )


def test_of_several_sources_the_one_with_the_path_counts() -> None:
    state = sync_state(
        application(
            sources=[{"repoURL": URL, "ref": "values"}, {"repoURL": URL, "path": PATH}],
            status={
                "sync": {"revisions": ["x", "a1"]},
                "operationState": {"phase": "Succeeded", "message": "done", "syncResult": {"revisions": ["x", "a1"]}},
            },
        )
    )
    assert (state.revision, state.operation_revision, state.message) == ("a1", "a1", "")


def test_an_error_condition_says_more_than_the_operation() -> None:
    conditions = [
        {"type": "SharedResourceWarning", "message": "w"},
        {"type": "ComparisonError", "message": "no access"},
    ]
    assert sync_state(application(status={"conditions": conditions})).message == "no access"


@pytest.mark.parametrize(
    ("policy", "automated"),
    [
        ({}, False),
        ({"automated": None}, False),
        ({"automated": {"enabled": False}}, False),
        ({"automated": {"prune": True}}, True),
    ],
)
def test_automated_sync_is_recognised(policy: dict[str, Any], *, automated: bool) -> None:
    assert sync_state(application(syncPolicy=policy)).automated is automated


def test_a_new_application_has_an_empty_state() -> None:
    state = sync_state({"metadata": {"name": "x"}, "spec": {}})
    assert (state.revision, state.operation_revision, state.phase, state.message, state.automated) == (
        "",
        "",
        "",
        "",
        False,
    )


def test_refresh_is_one_annotation_which_is_there_until_argo_cd_has_looked() -> None:
    assert refresh_patch() == {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
    assert refreshes(refresh_patch())
    assert not refreshes({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}})
    assert not refreshes({"metadata": {}})
