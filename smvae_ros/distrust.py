"""Distrust: what becomes of modalities that contradict the others, by their settings, and the sentences about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smvae_ros.settings import FusionSettings, Policy

if TYPE_CHECKING:  # torch takes seconds to import; a node that waits to be configured does without
    from smvae_core.inference.trust import Verdict


class Distrust:
    """The distrusted modalities of one stream of sets. The hysteresis is the verdicts' own.

    Args:
        policies: by modality, `streams.<modality>.distrust`.

    Attributes:
        since_ns: by distrusted modality whose policy is not off, the stamp of the estimated beginning of the fault.
        trust: by modality, that of the newest set which had it, 0 to 1.
    """

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self.policies = dict(policies)
        self.since_ns: dict[str, int] = {}
        self.trust: dict[str, float] = {}

    @property
    def distrusted(self) -> tuple[str, ...]:
        """The distrusted modalities whose policy is not off, in the order of the policies."""
        return tuple(name for name in self.policies if name in self.since_ns)

    @property
    def judges(self) -> bool:
        """Whether verdicts are wanted: the policy of some modality is not off."""
        return set(self.policies.values()) != {"off"}

    def names(self, policy: Policy) -> frozenset[str]:
        """Return the modalities with a policy."""
        return frozenset(name for name, one in self.policies.items() if one == policy)

    def change(self, policies: Mapping[str, Policy]) -> None:
        """Take other policies; they hold from the next set on."""
        self.policies = dict(policies)
        for name in list(self.since_ns):
            if self.policies.get(name) == "off":
                del self.since_ns[name]
        if not self.judges:
            self.trust.clear()

    def forget(self) -> None:
        """Trust everything again, as after time jumped."""
        self.since_ns.clear()
        self.trust.clear()

    def see(self, verdict: Verdict, stamp_ns: int) -> list[str]:
        """Take the verdict of a set with this stamp; return a sentence for each modality that it changes."""
        if not self.judges:  # the last set that was judged before all policies were set to off
            return []
        self.trust |= verdict.trust
        sentences = []
        for name in verdict.distrusted:
            if name not in self.since_ns and self.policies.get(name, "warn") != "off":
                faulty_for = verdict.faulty_for[name]
                self.since_ns[name] = stamp_ns - round(1e9 * faulty_for)
                dropped = self.policies.get(name) == "drop"
                end = "it leaves the set until it agrees again" if dropped else "it stays in the set"
                sentences.append(
                    f"{name} is distrusted, since {faulty_for:.2f} s before {stamp_ns / 1e9:.3f}: it contradicts "
                    f"what else is known (odds of e^{verdict.evidence[name]:.0f}, trust "
                    f"{verdict.trust.get(name, 0.0):.2f}); {end}"
                )
        for name in set(self.since_ns) - set(verdict.distrusted):
            seconds = (stamp_ns - self.since_ns.pop(name)) / 1e9
            sentences.append(f"{name} is trusted again at {stamp_ns / 1e9:.3f}, after {seconds:.2f} s")
        return sentences


def policies(settings: FusionSettings) -> dict[str, Policy]:
    """Return `streams.<modality>.distrust` by modality."""
    return {name: stream.distrust for name, stream in settings.streams.items()}
