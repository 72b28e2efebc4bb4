"""How long sets wait in the node's default settings."""

from smvae_core.modality import vision_touch_modalities
from smvae_ros.settings import default_settings
from smvae_ros.synchronizer.set_synchronizer import SampleSet, SetSynchronizer

_MS = 1_000_000
_START = 1_700_000_000_000 * _MS


def _run(synchronizer: SetSynchronizer, actions_ms: list[int], until_ms: int) -> list[SampleSet]:
    """Feed all modalities on time: images every 33 ms, the wrench every ms, commands at those moments."""
    sets: list[SampleSet] = []
    for now_ms in range(until_ms):
        now_ns = _START + now_ms * _MS
        sets += synchronizer.poll(now_ns)
        present = {"force": True, "rgb": now_ms % 33 == 0, "depth": now_ms % 33 == 0, "action": now_ms in actions_ms}
        for name in (name for name, there in present.items() if there):
            sets += synchronizer.add(name, now_ns, None, now_ns)
    return sets


def _longest_ms(sets: list[SampleSet], from_ms: int) -> float:
    waits = [(s.emitted_ns - s.opened_ns) / _MS for s in sets if s.stamp_ns >= _START + from_ms * _MS]
    assert len(waits) > 50
    return max(waits)


def test_two_commands_in_quick_succession_do_not_make_every_later_set_wait_longer() -> None:
    steady = list(range(7, 12_000, 50))
    settings = default_settings(vision_touch_modalities())
    undisturbed = _run(settings.synchronizer(), steady, 12_000)
    disturbed = _run(settings.synchronizer(), sorted([*steady, 1008]), 12_000)
    assert _longest_ms(disturbed, 1_000) > _longest_ms(undisturbed, 1_000)
    assert _longest_ms(disturbed, 9_000) == _longest_ms(undisturbed, 9_000)
