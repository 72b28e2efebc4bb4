"""The simulator as its own process: interrupted, without MuJoCo, without EGL."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from ...programs import wait_until

pytestmark = pytest.mark.rendering

ROOT = Path(__file__).parents[3]
PROGRAM = """
import signal
import sys
from pathlib import Path
from smvae_core.simulation.simulate import SimulationError, simulate

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start jobs in the background deaf to it
    out, trajectories, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    try:
        report = lambda steps: print(steps, flush=True)
        simulate(out, trajectories=trajectories, steps=500, seed=0, workers=workers, on_progress=report)
    except SimulationError as error:
        sys.exit(f"SimulationError: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start(tmp_path: Path, *arguments: object, before: str = "", **environment: str) -> subprocess.Popen:
    """The program above in a process group of its own, as a terminal would start it."""
    program = tmp_path / "program.py"
    program.write_text(before + PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program), str(tmp_path / "out"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_leaves_whole_files_and_nothing_else(tmp_path, workers):
    process = start(tmp_path, 50, workers)
    assert process.stdout.readline().strip() == "50", process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in complaints
    left = list((tmp_path / "out").iterdir())
    assert 1 <= len(left) < 500
    for path in left:
        assert path.suffix == ".h5"
        with h5py.File(path) as file:
            assert {len(data) for data in file.values()} == {50}


def test_an_interruption_while_the_workers_start_is_as_quiet(tmp_path):
    process = start(tmp_path, 50, 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # The resource tracker and two workers.
    wait_until(lambda: len(children.read_text().split()) >= 3, process, every_s=0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130 and complaints == ""


def test_the_command_line_says_what_an_interruption_left(tmp_path):
    command = [sys.executable, "-m", "smvae_core.cli", "simulate", "--out", "logs", "--trajectories", "50"]
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list(tmp_path.glob("logs/*.h5")), process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    kept = len(list(tmp_path.glob("logs/*.h5")))
    assert process.returncode == 130 and f"interrupted: {kept} whole files are in logs" in told


def test_without_mujoco_the_extra_is_named(tmp_path):
    _, complaints = run_to_the_end(tmp_path, before="import sys\nsys.modules['mujoco'] = None\n")
    assert complaints.startswith("SimulationError:") and "pip install 'smvae_ros[sim]'" in complaints
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_without_egl_the_debian_packages_are_named(tmp_path, workers):
    empty = tmp_path / "no_drivers"
    empty.mkdir()
    _, complaints = run_to_the_end(tmp_path, workers=workers, MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_DIRS=str(empty))
    assert "SimulationError:" in complaints and "libegl1" in complaints and "libgl1-mesa-dri" in complaints
    assert not (tmp_path / "out").exists()


def run_to_the_end(tmp_path: Path, *, workers: int = 1, before: str = "", **environment: str) -> tuple[str, str]:
    """Output and complaints of a run that fails."""
    process = start(tmp_path, 2, workers, before=before, **environment)
    output, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    return output, complaints


def test_a_script_without_a_guard_simulates_in_several_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from smvae_core.simulation.simulate import simulate\n"
        f"print(len(simulate({str(tmp_path / 'out')!r}, trajectories=2, steps=2, seed=0, workers=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
