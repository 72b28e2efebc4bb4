"""Reading Vision&Touch logs as they are on disk."""

import h5py
import numpy as np
import pytest

from smvae_core.data.samples import fit_modalities, read_samples, split_by_trajectory
from smvae_core.data.vision_touch import LogError, find_trajectories
from smvae_core.modality import vision_touch_modalities

from .conftest import write_log

MODALITIES = vision_touch_modalities()


def test_parts_of_a_trajectory_are_joined_in_order_whatever_their_lengths(logs):
    trajectories = find_trajectories(logs)
    assert [t.name for t in trajectories] == [f"triangle_0_journal_{n}" for n in range(4)]
    action = trajectories[2].read(["action"])["action"]
    with h5py.File(trajectories[2].parts[0][1]) as first, h5py.File(trajectories[2].parts[1][1]) as second:
        np.testing.assert_array_equal(action, np.concatenate([first["action"], second["action"]]))
    assert len(action) == 17


def test_trajectories_and_parts_are_in_natural_order(tmp_path):
    for trajectory, part in ((10, 0), (2, 10), (2, 9)):
        write_log(tmp_path / f"20190408_183047_triangle_0_journal_{trajectory}_{part}_1000.h5", 2)
    found = find_trajectories(tmp_path)
    assert [t.name for t in found] == ["triangle_0_journal_2", "triangle_0_journal_10"]
    assert [number for number, _ in found[0].parts] == [9, 10]


def test_a_sample_pairs_an_observation_with_the_command_that_follows(logs):
    trajectories = find_trajectories(logs)[:2]
    samples = read_samples(trajectories, MODALITIES)
    raw = trajectories[0].read(["image", "action", "ee_forces_continuous", "contact"])
    assert len(samples) == 34 and samples.available.shape == (34, 4)
    np.testing.assert_allclose(samples.arrays["action"][:16], raw["action"][1:], rtol=1e-6)
    np.testing.assert_allclose(
        samples.arrays["force"][3], MODALITIES[2].to_model(raw["ee_forces_continuous"][3]), rtol=1e-6
    )
    assert samples.contact[0] == raw["contact"][1].any()


def test_only_the_last_step_of_a_trajectory_lacks_its_command(logs):
    samples = read_samples(find_trajectories(logs)[:2], MODALITIES)
    assert np.flatnonzero(~samples.available[:, 3]).tolist() == [16, 33]
    assert samples.available[:, :3].all()


def test_a_missing_part_is_a_gap_in_time(tmp_path):
    for part in (0, 2):
        write_log(tmp_path / f"20190408_183047_triangle_0_journal_0_{part}_1000.h5", 3)
    samples = read_samples(find_trajectories(tmp_path), MODALITIES)
    assert np.flatnonzero(~samples.available[:, 3]).tolist() == [2, 5]


def test_no_trajectory_stands_on_both_sides_of_the_split(logs):
    trajectories = find_trajectories(logs)
    training, held_out = split_by_trajectory(trajectories, 0.3, seed=0)
    assert sorted(t.name for t in training + held_out) == sorted(t.name for t in trajectories)
    assert len(held_out) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_trajectories_to_hold_one_out_are_refused(logs, count):
    with pytest.raises(LogError, match=f"found {count}"):
        split_by_trajectory(find_trajectories(logs)[:count], 0.3, seed=0)


def test_scales_are_measured_on_the_training_part(logs):
    training = find_trajectories(logs)[:3]
    action = np.concatenate([t.read(["action"])["action"] for t in training])
    fitted = fit_modalities(MODALITIES, training)[3].preprocessing
    np.testing.assert_allclose(fitted.offset, action.mean(axis=0))
    np.testing.assert_allclose(fitted.scale, action.std(axis=0))


def test_the_mean_is_over_the_samples_that_have_the_modality(logs):
    samples = read_samples(find_trajectories(logs)[:1], MODALITIES)
    np.testing.assert_allclose(samples.mean()["action"], samples.arrays["action"][:-1].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(samples.mean()["rgb"], samples.arrays["rgb"].mean(axis=0) / 255.0, atol=1e-5)


@pytest.mark.parametrize(
    "replaced, sentence",
    [
        ({"action": None}, "expected key 'action', found"),
        ({"action": np.zeros((5, 3))}, r"key 'action' expected shape \(T, 4\), found \(5, 3\)"),
        ({"image": np.zeros((5, 128, 128, 3))}, "key 'image' expected uint8, found float64"),
        ({"action": np.zeros((4, 4))}, "keys of one length"),
        ({"ee_forces_continuous": np.full((5, 50, 6), np.nan)}, "key 'ee_forces_continuous': force: expected finite"),
    ],
)
def test_a_log_that_does_not_fit_is_named_with_its_key(tmp_path, replaced, sentence):
    path = write_log(tmp_path / "broken.h5", 5, **replaced)
    with pytest.raises(LogError, match=sentence) as error:
        read_samples(find_trajectories(tmp_path), MODALITIES)
    assert str(path) in str(error.value)


def test_a_log_without_steps_is_refused(tmp_path):
    write_log(tmp_path / "empty.h5", 0)
    with pytest.raises(LogError, match="at least one step"):
        read_samples(find_trajectories(tmp_path), MODALITIES)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"not HDF5", lambda b: b""])
def test_a_truncated_or_foreign_file_is_named(tmp_path, damage):
    path = write_log(tmp_path / "log.h5", 3)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LogError, match="log.h5"):
        read_samples(find_trajectories(tmp_path), MODALITIES)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_folder_without_logs_is_named(tmp_path, place):
    with pytest.raises(LogError, match=r"expected Vision&Touch logs \(.h5\)"):
        find_trajectories(tmp_path / place)
