"""The promotion policy as the controller asks it."""

from pathlib import Path

from test_decide import body

from backstay.controller.services.promotion_policy import PromotionPolicy
from backstay.domain.resource import ModelDeployment


def asked(folder: Path, **settings: str) -> PromotionPolicy:
    for name, value in settings.items():
        (folder / name).write_text(value)
    return PromotionPolicy(folder)


def model(version: str = "2", **fields: str) -> ModelDeployment:
    return ModelDeployment.of(body(version, model=fields))


def test_without_settings_nothing_is_asked(tmp_path: Path) -> None:
    assert PromotionPolicy(None).violations(model()) == ()
    assert PromotionPolicy(tmp_path / "absent").violations(model()) == ()


def test_a_namespace_that_is_meant_is_asked_and_others_are_not(tmp_path: Path) -> None:
    meant = asked(tmp_path, namespaces="^prod$", requireDigest="true")
    (violation,) = meant.violations(model())
    assert violation.startswith("version 2 has no digest, which prod asks for: bring it by backstay bump")
    assert meant.violations(model(digest="sha256:" + 64 * "a")) == ()
    assert asked(tmp_path, namespaces="-production$").violations(model()) == ()


def test_settings_are_read_again_at_each_question(tmp_path: Path) -> None:
    policy = asked(tmp_path, namespaces="^prod$", largestFirstStep="5")
    assert policy.violations(model())[0].startswith("the first step gives a new version more than 5 % of the traffic")
    asked(tmp_path, largestFirstStep="10")
    assert policy.violations(model()) == ()


def test_settings_that_cannot_be_used_forbid_and_are_named(tmp_path: Path) -> None:
    (violation,) = asked(tmp_path, colour="red").violations(model())
    assert "has no setting 'colour'" in violation
