"""Changes that must be refused: how they are made, the file to mend, and a part of the sentence that mends it."""

from typing import Any

import yaml
from models_repository import (
    BASE,
    MODEL,
    OTHER,
    OVERLAYS,
    PRODUCTION,
    SETTINGS,
    STAGING,
    VERSION,
    Edit,
    Repository,
    weights,
)

KUSTOMIZATION = f"{PRODUCTION}/kustomization.yaml"


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
    """Ask more by the policy, then bring a version."""

    def edit(repository: Repository) -> None:
        repository.policy(**settings)
        repository.before()
        repository.model(version="2", digest=digest)

    return edit


def loosened(repository: Repository) -> None:
    repository.policy(largestFirstStep="")
    repository.model(version="2", digest=OTHER)


def misspelt(repository: Repository) -> None:
    repository.policy(requireDigset="true")


def model_elsewhere(path: str, field: str, value: str) -> "Edit":
    """Have another file say something of the model."""

    def edit(repository: Repository) -> None:
        document = yaml.safe_load(repository.read(path))
        document["spec"]["model"] = {field: value}
        repository.write(path, yaml.safe_dump(document, sort_keys=False))

    return edit


def version_file_in_base(repository: Repository) -> None:
    repository.write(f"{BASE}/model-version.yaml", repository.read(VERSION))
    repository.write(
        f"{BASE}/kustomization.yaml",
        repository.read(f"{BASE}/kustomization.yaml") + "patches:\n  - path: model-version.yaml\n",
    )


def another_models_file(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    repository.write("applications/credit-score/base/notes.yaml", "a: 1\n")


def shared_component(repository: Repository) -> None:
    component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
    repository.write("components/common/kustomization.yaml", component)
    repository.write(KUSTOMIZATION, repository.read(KUSTOMIZATION) + "components:\n  - ../../../../components/common\n")
    repository.before()
    repository.write("components/common/kustomization.yaml", component + "commonAnnotations: {a: b}\n")
    repository.model(version="2", digest=OTHER)


def brought(**fields: Any) -> "Edit":
    """Say who brought the first version and when, then change it."""

    def edit(repository: Repository) -> None:
        repository.model(promotedBy="Robin Doe <robin@example.com>", promotedAt="2026-03-01T09:30:00Z")
        repository.before()
        repository.model(**fields)

    return edit


def stale_retry(repository: Repository) -> None:
    repository.model(version="3", digest=OTHER, retryOf="4a7d1ed414474e40")
    repository.before()
    repository.model(version="4", digest="sha256:" + 64 * "c")


def nested_remote_base(repository: Repository) -> None:
    path = f"{BASE}/kustomization.yaml"
    repository.edit(path, "  - modeldeployment.yaml", "  - modeldeployment.yaml\n  - ../../shared")
    remote = "resources:\n  - git@git.example.com:models/base?ref=main\n"
    repository.write("applications/shared/kustomization.yaml", remote)


def settings_link(repository: Repository) -> None:
    (repository.root / SETTINGS).rename(repository.root.parent / "settings.yaml")
    (repository.root / SETTINGS).symlink_to(repository.root.parent / "settings.yaml")


def in_kustomization(text: str) -> "Edit":
    return lambda r: r.write(KUSTOMIZATION, r.read(KUSTOMIZATION) + text)


def moved_namespace(repository: Repository) -> None:
    repository.edit(KUSTOMIZATION, "namespace: fraud-detector-production", "namespace: fraud-detector-live")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(8 * [f'*a{n - 1}'])}]\n" for n in range(1, 12)
)


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
        "says version twice; keep one of them",
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
        KUSTOMIZATION,
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
        lambda r: (r.root / KUSTOMIZATION).unlink(),
        PRODUCTION,
        "has no kustomization.yaml; add one that lists base and patches",
    ),
    "a remote base": (
        lambda r: r.edit(KUSTOMIZATION, "../../base", "https://git.example.com/base?ref=main"),
        KUSTOMIZATION,
        "comes from elsewhere and may change without a commit here; copy it in",
    ),
    "a base outside of the repository": (
        lambda r: r.edit(KUSTOMIZATION, "../../base", "../../../../../base"),
        KUSTOMIZATION,
        "lies outside of the repository; copy it in",
    ),
    "a base that is not there": (
        lambda r: r.edit(KUSTOMIZATION, "../../base", "../../bases"),
        KUSTOMIZATION,
        "../../bases is not there; correct the path so that the folder renders",
    ),
    "a prefix": (
        lambda r: r.write(KUSTOMIZATION, r.read(KUSTOMIZATION) + "namePrefix: x-\n"),
        KUSTOMIZATION,
        "use no namePrefix or nameSuffix, or rollbacks cannot find it",
    ),
    "no namespace": (
        lambda r: r.edit(KUSTOMIZATION, "namespace: fraud-detector-production\n", ""),
        KUSTOMIZATION,
        "the environment has no namespace; set namespace in the kustomization",
    ),
    "a version that does not arrive": (
        lambda r: r.edit(KUSTOMIZATION, "  - path: model-version.yaml # which version\n", ""),
        KUSTOMIZATION,
        "what model-version.yaml says does not arrive; list it last among the patches",
    ),
    "two ModelDeployments": (
        lambda r: r.write(
            f"applications/{MODEL}/base/modeldeployment.yaml",
            (text := r.read(f"applications/{MODEL}/base/modeldeployment.yaml"))
            + "---\n"
            + text.replace(MODEL, "second"),
        ),
        KUSTOMIZATION,
        "Kustomize makes 2 ModelDeployments of this folder; an environment is exactly one",
    ),
    "weights that fall": (
        lambda r: r.settings("production", weights(10, 5, 100)),
        SETTINGS,
        "put the weights in rising order",
    ),
    "no full traffic": (
        lambda r: r.settings("production", weights(5, 50)),
        SETTINGS,
        "add a step with weight: 100",
    ),
    "a duration that is none": (
        lambda r: r.settings("production", lambda spec: spec["rollout"].update(deadline="soon")),
        SETTINGS,
        "'soon' is not a duration: write whole numbers with units",
    ),
    "an unknown setting": (
        lambda r: r.settings("production", lambda spec: spec.update(canary=True)),
        SETTINGS,
        "spec.canary is not a field: there are",
    ),
    "an unknown word": (
        lambda r: r.settings("production", lambda spec: spec.update(rollback={"writeBack": "mail"})),
        SETTINGS,
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
    "the policy is loosened by the change that needs it": (
        loosened,
        VERSION,
        "moves the version and policies/promotion/settings.yaml, by which it is checked; change that first",
    ),
    "a misspelt setting of the policy": (
        misspelt,
        "policies/promotion/settings.yaml",
        "the promotion policy has no setting 'requireDigset': correct its name in the ConfigMap backstay-promotion",
    ),
    "a setting that is no truth": (
        lambda r: r.policy(requireDigest="yes"),
        "policies/promotion/settings.yaml",
        'requireDigest of the promotion policy is neither "true" nor "false": correct it',
    ),
    "a limit that is no number": (
        lambda r: r.policy(largestFirstStep="5 %"),
        "policies/promotion/settings.yaml",
        "largestFirstStep of the promotion policy is '5 %': write a whole number from 1 to 100",
    ),
    "the digest is set in the settings": (
        model_elsewhere(SETTINGS, "codeCommit", 40 * "c"),
        SETTINGS,
        "spec.model.codeCommit is set outside of model-version.yaml; move it there",
    ),
    "the base has a say in the model": (
        model_elsewhere(f"{BASE}/modeldeployment.yaml", "promotedBy", "nobody"),
        f"{BASE}/modeldeployment.yaml",
        "spec.model.promotedBy is set outside of model-version.yaml; move it there",
    ),
    "a version file in the base": (
        version_file_in_base,
        f"{BASE}/model-version.yaml",
        f"a version file belongs into an overlay; move it to {VERSION}",
    ),
    "another model's files as well": (
        another_models_file,
        VERSION,
        "touches applications/credit-score/base/notes.yaml as well; change the version alone",
    ),
    "a shared component as well": (
        shared_component,
        VERSION,
        "touches components/common/kustomization.yaml as well; change the version alone",
    ),
    "who brought the version before": (
        brought(version="2", digest=OTHER),
        VERSION,
        "promotedAt is still that of version 1; use backstay bump, or write when this one came",
    ),
    "somebody else brought it, after all": (
        brought(promotedBy="Kim Roe <kim@example.com>"),
        VERSION,
        "promotedBy changes and the version does not; restore it, for it says who brought this version",
    ),
    "nobody knows any more when it came": (
        brought(promotedAt=None),
        VERSION,
        "promotedAt changes and the version does not; restore it",
    ),
    "the digest is taken away": (
        lambda r: r.model(digest=None),
        VERSION,
        "version 1 loses its digest, and could be any model; restore spec.model.digest",
    ),
    "a retry of what is not declared": (
        stale_retry,
        VERSION,
        "retryOf lifts the rejection of version 3, and the file declares version 4; remove spec.model.retryOf",
    ),
    "a remote base of the base": (
        nested_remote_base,
        "applications/shared/kustomization.yaml",
        "git@git.example.com:models/base?ref=main comes from elsewhere",
    ),
    "a remote patch": (
        in_kustomization("  - path: https://git.example.com/patch.yaml\n"),
        KUSTOMIZATION,
        "https://git.example.com/patch.yaml comes from elsewhere and may change without a commit here; copy it in",
    ),
    "a plugin": (
        in_kustomization("transformers:\n  - plugin.yaml\n"),
        KUSTOMIZATION,
        "transformers configures plugins, which may fetch files or run programs; use patches, labels, replacements",
    ),
    "a field in capitals": (
        in_kustomization("Components:\n  - ../../../common\n"),
        KUSTOMIZATION,
        "Components is not a field that a kustomization may have here; write components, or take it out",
    ),
    "two kustomizations": (
        lambda r: r.write(f"{PRODUCTION}/kustomization.yml", r.read(KUSTOMIZATION)),
        PRODUCTION,
        "the folder has kustomization.yaml and kustomization.yml; keep one of them",
    ),
    "a chart": (
        in_kustomization("helmCharts:\n  - name: model\n    repo: https://charts.example.com\n"),
        KUSTOMIZATION,
        "helmCharts has charts fetched from elsewhere; render them, and commit the manifests",
    ),
    "settings that are a link out of the repository": (
        settings_link,
        KUSTOMIZATION,
        "settings.yaml lies outside of the repository; copy it in",
    ),
    "an environment that moves": (
        moved_namespace,
        KUSTOMIZATION,
        "moves from namespace fraud-detector-production to fraud-detector-live, where it starts without",
    ),
    "an environment that does not exist": (
        lambda r: r.edit(
            f"applications/argocd/{MODEL}-staging.yaml", f"path: {STAGING}", f"path: {OVERLAYS}/acceptance"
        ),
        f"applications/argocd/{MODEL}-staging.yaml",
        f"{OVERLAYS}/acceptance is no environment here; name one of {PRODUCTION}, {STAGING}, or add it",
    ),
    "an anchor that holds itself": (
        lambda r: r.write(VERSION, "kind: &kind {a: *kind}\n"),
        VERSION,
        "has an anchor that holds itself; write its fields out",
    ),
    "aliases that multiply": (
        lambda r: r.write(VERSION, BOMB + r.read(VERSION)),
        VERSION,
        "grows without measure through its aliases; write its fields out without anchors",
    ),
    "brackets without end": (
        lambda r: r.write(VERSION, "kind: " + 50_000 * "[" + 50_000 * "]"),
        VERSION,
        "nests more than 100 levels; write one field a line",
    ),
    "UTF-16": (
        lambda r: r.write(VERSION, r.read(VERSION).encode("utf-16")),
        VERSION,
        "is not UTF-8 text; save it as UTF-8",
    ),
    "a tab": (
        lambda r: r.edit(VERSION, "  model:\n", "\tmodel:\n"),
        VERSION,
        "the version file is not YAML: found character that cannot start any token; correct it",
    ),
    "a broken kustomization": (
        lambda r: r.write(KUSTOMIZATION, "resources: ["),
        KUSTOMIZATION,
        "the kustomization is not YAML",
    ),
    "a kustomization that multiplies": (
        lambda r: r.write(KUSTOMIZATION, BOMB),
        KUSTOMIZATION,
        "the kustomization has an anchor or alias; write its fields out without anchors",
    ),
    "broken settings": (
        lambda r: r.write(SETTINGS, "spec: ["),
        KUSTOMIZATION,
        "correct the folder so that it renders",
    ),
    "a spec that is a list": (
        lambda r: r.write(
            SETTINGS,
            f"apiVersion: backstay.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {MODEL}}}\nspec: []\n",
        ),
        KUSTOMIZATION,
        "render",
    ),
    "a text that is a number elsewhere": (
        lambda r: r.edit(VERSION, "version: '1'", "version: 1e3"),
        VERSION,
        "spec.model.version holds a text that others read as a number; put it in quotes",
    ),
    "a registry that is gone": (
        lambda r: r.edit(f"{BASE}/modeldeployment.yaml", "  registry:\n    uri: http://127.0.0.1:9\n", ""),
        VERSION,
        "spec lacks registry: write it",
    ),
}
