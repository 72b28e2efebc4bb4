"""What becomes of a distrusted modality, by its setting, and what is said."""

import pytest

from smvae_core.inference.trust import Verdict
from smvae_core.modality import vision_touch_modalities
from smvae_ros.distrust import Distrust
from smvae_ros.settings import Policy, default_settings


def verdict(*distrusted: str) -> Verdict:
    trust = {name: 0.2 if name in distrusted else 0.9 for name in ("rgb", "depth")}
    seconds, evidence = dict.fromkeys(distrusted, 0.4), dict.fromkeys(distrusted, 15.0)
    return Verdict(trust, dict.fromkeys(trust, 0.5), distrusted, seconds, evidence)


@pytest.mark.parametrize("policy", ["off", "warn", "drop"])
def test_a_policy_decides_what_happens(policy: Policy) -> None:
    distrust = Distrust({"rgb": policy, "depth": "warn"})
    assert distrust.see(verdict(), 10**9) == [] and not distrust.distrusted
    said = distrust.see(verdict("rgb"), 2 * 10**9)
    assert distrust.names(policy) >= {"rgb"} and distrust.trust["rgb"] == 0.2
    if policy == "off":
        assert not said and not distrust.since_ns
        return
    (sentence,) = said
    assert sentence.startswith("rgb is distrusted, since 0.40 s before 2.000: ") and "e^15" in sentence
    assert sentence.endswith("until it agrees again" if policy == "drop" else "it stays in the set")
    assert distrust.since_ns == {"rgb": 1_600_000_000}
    assert distrust.see(verdict("rgb"), 3 * 10**9) == [], "said once"
    assert distrust.see(verdict(), 4 * 10**9) == ["rgb is trusted again at 4.000, after 2.40 s"]
    assert not distrust.distrusted and not distrust.since_ns


def test_a_change_of_policy_holds_at_once_and_forgetting_trusts_everything() -> None:
    distrust = Distrust({"rgb": "warn"})
    distrust.see(verdict("rgb"), 10**9)
    distrust.change({"rgb": "drop"})
    assert distrust.names("drop") == {"rgb"} and distrust.distrusted == ("rgb",)
    distrust.change({"rgb": "off"})
    assert not distrust.names("drop") and not distrust.distrusted
    distrust.change({"rgb": "drop"})
    distrust.see(verdict("rgb"), 2 * 10**9)
    distrust.forget()
    assert not distrust.distrusted and not distrust.trust


def test_verdicts_are_wanted_until_every_policy_is_off() -> None:
    distrust = Distrust({"rgb": "off", "depth": "warn"})
    distrust.see(verdict("depth"), 10**9)
    assert distrust.judges and distrust.trust
    distrust.change({"rgb": "off", "depth": "off"})
    assert not distrust.judges and not distrust.trust
    assert distrust.see(verdict("depth"), 2 * 10**9) == [] and not distrust.trust, "a verdict that came too late"
    distrust.change({"rgb": "off", "depth": "drop"})
    assert distrust.judges and distrust.see(verdict("depth"), 3 * 10**9)


def test_an_off_without_quotes_is_a_word() -> None:
    settings = default_settings(vision_touch_modalities()).changed({"streams": {"rgb": {"distrust": False}}})
    assert settings.streams["rgb"].distrust == "off" and settings.streams["depth"].distrust == "warn"
