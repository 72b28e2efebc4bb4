"""The cache of logs: the same samples as the logs, whatever stopped an earlier build, and nothing read twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from smvae_core.data.cache import CacheError, cache_folder, cached_samples
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.samples import Samples, read_samples
from smvae_core.modality import vision_touch_modalities
from smvae_core.preprocessing import Depth

from ... import programs
from ..conftest import write_log

MODALITIES = vision_touch_modalities()
ROOT = Path(__file__).parents[3]


def build(logs: Path, cache: Path | None = None, **options) -> tuple[Samples, dict[Path, str], list[str]]:
    read: list[str] = []
    folder = cache_folder(logs, MODALITIES, cache)
    found = cached_samples(
        find_trajectories(logs), MODALITIES, folder, on_part=lambda path: read.append(path.name), **options
    )
    return *found, read


def same(a: Samples, b: Samples) -> None:
    everything = np.arange(len(a))
    (batch_a, available_a), (batch_b, available_b) = a.batch(everything), b.batch(everything)
    assert torch.equal(available_a, available_b)
    for column, name in enumerate(batch_a):
        here = available_a[:, column]
        assert torch.equal(batch_a[name][here], batch_b[name][here]), name
    np.testing.assert_array_equal(a.contact, b.contact)
    np.testing.assert_array_equal(a.pose, b.pose)
    assert a.names == b.names and (a.trajectory == b.trajectory).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_cache_holds_what_the_logs_hold(logs, workers):
    cached, skipped, read = build(logs, workers=workers)
    same(cached, read_samples(find_trajectories(logs), MODALITIES))
    assert len(read) == 8 and not skipped
    assert isinstance(cached.arrays["rgb"], np.memmap) and cached.arrays["rgb"].dtype == np.uint8
    assert cached.arrays["depth"].dtype == np.float16


def test_a_second_time_no_log_is_opened(logs, monkeypatch):
    build(logs)
    monkeypatch.setattr("h5py.File", None)
    cached, _, read = build(logs)
    assert read == [] and len(cached) == 68


def test_only_files_that_changed_or_are_new_are_read_again(logs):
    build(logs)
    changed = logs / "20190408_183040_triangle_0_journal_2_0_1000.h5"
    write_log(changed, 12, seed=99)
    write_log(logs / "20190408_183042_triangle_0_journal_2_2_1000.h5", 4, seed=100)
    cached, _, read = build(logs)
    assert sorted(read) == [changed.name, "20190408_183042_triangle_0_journal_2_2_1000.h5"]
    same(cached, read_samples(find_trajectories(logs), MODALITIES))


def test_a_table_of_mostly_old_rows_begins_anew(logs):
    for seed in range(4):
        for path in sorted(logs.glob("*.h5")):
            write_log(path, 5, seed=seed)
        cached, _, _ = build(logs)
    same(cached, read_samples(find_trajectories(logs), MODALITIES))
    assert len(cached.arrays["rgb"]) <= 3 * len(cached)


def test_a_log_that_went_is_gone(logs):
    build(logs)
    (logs / "20190408_183040_triangle_0_journal_1_0_1000.h5").unlink()
    cached, _, read = build(logs)
    same(cached, read_samples(find_trajectories(logs), MODALITIES))
    assert read == [] and len(cached) == 58


def test_other_preprocessing_has_another_table(logs):
    other = tuple(
        m.model_copy(update={"preprocessing": Depth(max_depth=1.0)}) if m.name == "depth" else m for m in MODALITIES
    )
    assert cache_folder(logs, MODALITIES, None) != cache_folder(logs, other, None)
    assert cache_folder(logs, MODALITIES, None).is_relative_to(logs)


@pytest.mark.parametrize("name", ["rgb.uint8", "manifest.json"])
def test_a_damaged_cache_is_built_again(logs, tmp_path, name):
    first, _, _ = build(logs, tmp_path / "cache")
    path = cache_folder(logs, MODALITIES, tmp_path / "cache") / name
    path.write_bytes(path.read_bytes()[:100])
    again, _, read = build(logs, tmp_path / "cache")
    assert len(read) == 8
    same(again, read_samples(find_trajectories(logs), MODALITIES))


def test_a_build_that_is_killed_goes_on_where_it_was(logs):
    script = f"""
import os, signal
from smvae_core.data import cache
from test.core.data.test_cache import build
from pathlib import Path
cache._MANIFEST_EVERY = 1
write, count = cache._write_manifest, []
def dying(*arguments):
    write(*arguments)
    count.append(1)
    if len(count) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
cache._write_manifest = dying
build(Path({str(logs)!r}), workers=1)
"""
    killed = programs.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    cached, _, read = build(logs)
    assert len(read) == 5
    same(cached, read_samples(find_trajectories(logs), MODALITIES))


def damage(logs: Path) -> dict[str, str]:
    paths = sorted(logs.glob("*.h5"))
    paths[0].write_bytes(paths[0].read_bytes()[:3000])
    paths[1].write_bytes(b"not HDF5")
    write_log(paths[2], 5, action=np.zeros((5, 3)))
    write_log(paths[3], 5, ee_forces_continuous=np.full((5, 50, 6), np.nan))
    write_log(paths[4], 0)
    write_log(paths[5], 5, action=np.zeros((4, 4)))
    return {
        paths[0].name: "cannot be opened",
        paths[1].name: "cannot be opened",
        paths[2].name: "expected a vector of shape",
        paths[3].name: "finite",
        paths[4].name: "at least one step",
        paths[5].name: "one length",
    }


def test_one_error_lists_all_damaged_files_with_their_reasons(logs):
    expected = damage(logs)
    with pytest.raises(LogError, match="6 of 8 files cannot be used") as error:
        build(logs)
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 6
    for name, reason in expected.items():
        assert any(name in line and reason in line for line in lines), name


def test_skip_bad_goes_on_without_them(logs):
    expected = damage(logs)
    cached, skipped, _ = build(logs, skip_bad=True)
    assert {path.name for path in skipped} == set(expected)
    assert len(cached) == 14 and len(cached.names) == 2


def test_nothing_but_bad_files_is_an_error_even_then(tmp_path):
    (tmp_path / "log.h5").write_bytes(b"")
    with pytest.raises(LogError, match="1 files and none that can be used"):
        build(tmp_path, skip_bad=True)


def test_a_key_declared_missing_is_not_looked_at(logs):
    for path in logs.glob("*journal_1_*.h5"):
        write_log(path, 5, ee_forces_continuous=np.full((5, 50, 6), np.nan))
    absent = {"triangle_0_journal_1": frozenset({"force"})}
    cached, _, _ = build(logs, absent=absent)
    mine = cached.trajectory == cached.names.index("triangle_0_journal_1")
    assert not cached.available[mine, 2].any() and cached.available[~mine, 2].all()
    with pytest.raises(LogError, match="2 of 8 files"):
        build(logs)


def test_a_cache_that_cannot_be_written_names_the_option(logs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="--cache"):
        build(logs, tmp_path / "file")


def test_a_full_disk_while_building_is_an_error_and_what_was_built_stays(logs, tmp_path):
    script = f"""
import resource, signal
from pathlib import Path
from test.core.data.test_cache import build
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    build(Path({str(logs)!r}), workers=1)
except Exception as error:
    print(type(error).__name__, error)
"""
    limited = programs.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "CacheError" in limited.stdout and "cannot be written" in limited.stdout
    cached, _, read = build(logs)
    assert 0 < len(read) < 8
    same(cached, read_samples(find_trajectories(logs), MODALITIES))


CALLS = {
    "guarded": 'if __name__ == "__main__":\n    print(read())',
    "unguarded": "print(read())",
    "in a thread": "t = threading.Thread(target=lambda: print(read()))\nt.start()\nt.join()",
    "in a process of a pool": "print(multiprocessing.get_context('fork').Pool(1).apply(read))",
    "in a notebook": "exec(compile('print(read())', '<cell>', 'exec'), globals())",
}


@pytest.mark.parametrize(("call", "stdin"), [*((call, False) for call in CALLS), ("unguarded", True)])
def test_logs_are_read_wherever_a_script_calls_for_it(logs, tmp_path, call, stdin):
    script = tmp_path / "script.py"
    text = f"""
import multiprocessing, threading
from pathlib import Path
from smvae_core.data.cache import cache_folder, cached_samples
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.modality import vision_touch_modalities

def read():
    logs, modalities = Path({str(logs)!r}), vision_touch_modalities()
    found = cached_samples(find_trajectories(logs), modalities, cache_folder(logs, modalities, None), workers=2)
    return len(found.samples)

{CALLS[call]}
"""
    script.write_text(text)
    run = subprocess.run(
        [sys.executable, "-" if stdin else str(script)],
        input=text if stdin else None,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (0, "68\n"), run.stderr
