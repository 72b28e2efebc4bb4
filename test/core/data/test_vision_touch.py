"""Reading Vision&Touch logs as they are on disk."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.vision_touch import find_trajectories, read_trajectory
from smvae_core.data.samples import fitted, read_samples, reasons
from smvae_core.data.splits import split_by_sample, split_by_trajectory
from smvae_core.modality import vision_touch_modalities

from ..conftest import write_log

MODALITIES = vision_touch_modalities()


def test_parts_of_a_trajectory_are_joined_in_order_whatever_their_lengths(logs):
    trajectories = find_trajectories(logs)
    assert [t.name for t in trajectories] == [f"triangle_0_journal_{n}" for n in range(4)]
    action = read_trajectory(trajectories[2], ["action"])["action"]
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
    raw = read_trajectory(
        trajectories[0], ["image", "depth_data", "action", "ee_forces_continuous", "contact", "proprio"]
    )
    assert len(samples) == 34 and samples.available.shape == (34, 4)
    batch, _ = samples.batch(np.arange(34))
    np.testing.assert_allclose(batch["action"][:16], raw["action"][1:], rtol=1e-6)
    np.testing.assert_allclose(batch["force"][3], MODALITIES[2].to_model(raw["ee_forces_continuous"][3]), rtol=1e-6)
    np.testing.assert_allclose(batch["rgb"][3], MODALITIES[0].to_model(raw["image"][3]), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(batch["depth"][3], MODALITIES[1].to_model(raw["depth_data"][3]), atol=1e-3)
    assert samples.contact[0] == raw["contact"][1].any()
    np.testing.assert_allclose(samples.pose[:16], raw["proprio"][1:, :4], rtol=1e-6)
    assert np.isnan(samples.contact[16]) and np.isnan(samples.pose[16]).all()
    assert samples.previous[:3].tolist() == [-1, 0, 1]


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
    samples = read_samples(find_trajectories(logs), MODALITIES)
    training, held_out = split_by_trajectory(samples, 0.3, seed=0)
    assert sorted(training.held + held_out.held) == sorted(samples.names)
    assert len(held_out.held) == 1 and len(training) == 51 and len(held_out) == 17


def test_the_papers_split_holds_out_single_samples(logs):
    samples = read_samples(find_trajectories(logs), MODALITIES)
    training, held_out = split_by_sample(samples, 0.3, seed=0)
    assert sorted([*training.rows, *held_out.rows]) == sorted(samples.rows)
    assert len(held_out) == round(0.3 * 68) and len(held_out.held) == 4


def test_too_few_to_hold_one_out_are_refused(logs):
    samples = read_samples(find_trajectories(logs)[:2], MODALITIES)
    with pytest.raises(LogError, match="expected enough trajectories to hold out 1% of them, found 2"):
        split_by_trajectory(samples, 0.01, seed=0)
    with pytest.raises(LogError, match="expected enough samples to hold out 1% of them, found 1"):
        split_by_sample(samples.select(np.arange(1)), 0.01, seed=0)


def test_scales_are_measured_on_the_training_part(logs):
    training, _ = split_by_trajectory(read_samples(find_trajectories(logs), MODALITIES), 0.3, seed=0)
    action = np.concatenate(
        [read_trajectory(t, ["action"])["action"][1:] for t in find_trajectories(logs) if t.name in training.held]
    )
    vector = fitted(training)[3].preprocessing
    np.testing.assert_allclose(vector.offset, action.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(vector.scale, action.std(axis=0), rtol=1e-5)


def test_the_mean_is_over_the_samples_that_have_the_modality(logs):
    samples = read_samples(find_trajectories(logs)[:1], MODALITIES)
    batch, available = samples.batch(np.arange(17))
    assert available[:, 3].sum() == 16
    np.testing.assert_allclose(samples.mean()["action"], batch["action"][:-1].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(samples.mean()["rgb"], batch["rgb"].mean(axis=0), atol=1e-5)


def test_a_trajectory_that_lacks_a_sensor_is_read_without_it(tmp_path):
    for part in range(2):
        write_log(tmp_path / f"20190408_183047_triangle_0_journal_0_{part}_1000.h5", 5, depth_data=None)
        write_log(tmp_path / f"20190408_183047_triangle_0_journal_1_{part}_1000.h5", 5)
    samples = read_samples(find_trajectories(tmp_path), MODALITIES)
    assert not samples.available[:10, 1].any() and samples.available[10:, 1].all()
    assert samples.available[:, [0, 2]].all()


def test_a_key_that_only_some_files_of_a_trajectory_lack_is_damage(tmp_path):
    write_log(tmp_path / "20190408_183047_triangle_0_journal_0_0_1000.h5", 5, depth_data=None)
    write_log(tmp_path / "20190408_183047_triangle_0_journal_0_1_1000.h5", 5)
    with pytest.raises(LogError, match="journal_0_0_1000.h5: expected what other files .* found no data of depth"):
        read_samples(find_trajectories(tmp_path), MODALITIES)


def test_a_modality_that_no_training_log_has_cannot_be_fitted(tmp_path):
    write_log(tmp_path / "log.h5", 5, action=None)
    with pytest.raises(LogError, match="key 'action', found it in none"):
        fitted(read_samples(find_trajectories(tmp_path), MODALITIES))


def test_logs_without_labels_are_read(tmp_path):
    write_log(tmp_path / "log.h5", 5, contact=None, proprio=None)
    samples = read_samples(find_trajectories(tmp_path), MODALITIES)
    assert len(samples) == 5 and np.isnan(samples.contact).all() and np.isnan(samples.pose).all()


@pytest.mark.parametrize(
    "replaced, sentence",
    [
        (dict.fromkeys(["image", "depth_data", "action", "ee_forces_continuous"]), "at least one of the keys"),
        ({"action": np.array([[b"left"] * 4] * 5)}, "key 'action' expected numbers, found"),
        ({"action": np.zeros((5, 3))}, r"key 'action', step 0: action: expected a vector of shape \(4,\), found .*3"),
        ({"image": np.zeros((5, 128, 128, 3))}, "key 'image', step 0: rgb: expected a uint8 image .*, found float64"),
        ({"action": np.zeros((4, 4))}, "keys of one length"),
        (
            {"ee_forces_continuous": np.full((5, 50, 6), np.nan)},
            "key 'ee_forces_continuous', step 0: force: expected finite",
        ),
    ],
)
def test_a_log_that_does_not_fit_is_named_with_its_key(tmp_path, replaced, sentence):
    path = write_log(tmp_path / "broken.h5", 5, **replaced)
    with pytest.raises(LogError, match=sentence) as error:
        read_samples(find_trajectories(tmp_path), MODALITIES)
    assert str(path) in str(error.value)


def test_what_many_files_share_is_told_once():
    bad = {Path(f"logs/{n}.h5"): f"logs/{n}.h5: expected key 'image', found []" for n in range(5)}
    bad[Path("logs/9.h5")] = "logs/9.h5: expected a whole HDF5 file"
    assert reasons(bad) == [
        "5 files (logs/0.h5, logs/1.h5, logs/2.h5, …): expected key 'image', found []",
        "logs/9.h5: expected a whole HDF5 file",
    ]


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
    with pytest.raises(LogError, match=r"expected Vision&Touch logs \(.h5, .hdf5\)"):
        find_trajectories(tmp_path / place)
