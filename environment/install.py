"""Make .venv: ROS 2 (the sourced one, else Jazzy from PyPI), PyTorch and the rest, at the versions of constraints.txt.

A second run does nothing while the inputs are the same, and brings the environment up to date when they changed. It
starts afresh if an earlier run was interrupted, or if the environment was made for another Python, ROS 2 or folder.
"""

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from pip_progress import condensed

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup-complete.json"
LOG = VENV / "setup.log"
CONSTRAINTS = ROOT / "constraints.txt"
ROS_PACKAGES = ROOT / "environment" / "ros-packages.txt"
DISTRO = os.environ.get("ROS_DISTRO", "")


def main() -> int:
    """Bring .venv up to date and return the exit code."""
    wanted = {"identity": identity(), "inputs": digest_of_inputs()}
    found = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    if found == wanted:
        return 0
    try:
        if found.get("identity") != wanted["identity"]:
            make_venv()
        STAMP.unlink(missing_ok=True)
        install(wanted_packages(), constraints())
        if not DISTRO:
            rewrite_cmake_files()
        write_shell_environment()
        # Written last and in one step, so that a set-up that was stopped leaves no stamp.
        unfinished = STAMP.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(wanted))
        unfinished.replace(STAMP)
    except KeyboardInterrupt:
        print("\nInterrupted: the next make starts the set-up afresh.", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-15:]) if LOG.exists() else ""
        print(
            f"{tail}\nThe set-up failed: {error}. The whole output is in {LOG}; run make again to repair it.",
            file=sys.stderr,
        )
        return 2
    print(f"Environment ready in {VENV}")
    return 0


def identity() -> dict[str, str]:
    """Return what an environment is made for; if one of these changes, it is made anew."""
    return {"python": sys.version, "prefix": sys.base_prefix, "folder": str(VENV), "ros": DISTRO}


def digest_of_inputs() -> str:
    """Return a digest of the files that decide what is installed."""
    digest = hashlib.sha256("\n".join(wanted_packages()).encode())
    for path in (CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def wanted_packages() -> list[str]:
    """Return the requirements of setup.cfg with all extras, colcon, and ROS 2 where none is sourced."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lists = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    if not DISTRO:
        lists.append(ROS_PACKAGES.read_text())
    lines = [line.strip() for text in lists for line in text.splitlines()]
    return ["colcon-common-extensions", *(line for line in lines if line and not line.startswith("#"))]


def make_venv() -> None:
    """Make an empty virtual environment, in place of what an earlier set-up left."""
    ros = f"ROS 2 {DISTRO}" if DISTRO else "ROS 2 Jazzy from PyPI"
    print(f"Making a virtual environment in {VENV} (Python {sys.version.split()[0]}, {ros})")
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True, symlinks=True, system_site_packages=bool(DISTRO))


def constraints() -> Path:
    """Return constraints.txt; under a sourced ROS 2, a copy with the NumPy that its messages were compiled against."""
    if not DISTRO:
        return CONSTRAINTS
    probe = [str(PYTHON), "-c", "import numpy; print(numpy.__version__)"]
    numpy = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip()
    adapted = VENV / "constraints.txt"
    adapted.write_text(re.sub(r"(?m)^numpy==.*$", f"numpy=={numpy}", CONSTRAINTS.read_text()))
    return adapted


def install(packages: list[str], versions: Path) -> None:
    """Install the packages at the pinned versions, pip and setuptools first."""
    pip("install", "-c", str(versions), "pip", "setuptools")
    size = "6 GB" if torch_has_cuda(versions) else "2 GB"
    print(
        f"Installing {len(packages)} packages and what they need: "
        f"the first time this takes some minutes and {size} of disk (log: {LOG})",
        flush=True,
    )
    pip("install", "-c", str(versions), "--build-constraint", str(versions), *packages)


def torch_has_cuda(versions: Path) -> bool:
    """Tell which build of PyTorch pip will install, before it downloads gigabytes, and return whether it has CUDA."""
    plan = VENV / "torch.json"
    pip("install", "--dry-run", "--ignore-installed", "--report", str(plan), "-c", str(versions), "torch")
    chosen = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(plan.read_text())["install"]}
    cuda = any(name.startswith("nvidia-") for name in chosen)
    print(f"PyTorch {chosen['torch']}, {'with' if cuda else 'without'} CUDA")
    if cuda and not has_nvidia_gpu():
        print(
            "  This machine shows no NVIDIA GPU, yet pip will fetch the build with CUDA (4 GB more), because it\n"
            "  knows of no other. For the CPU build stop here, set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel\n"
            "  index (named on pytorch.org under 'Get Started') or PIP_FIND_LINKS to a folder with its wheel,\n"
            "  and run make again.",
            flush=True,
        )
    return cuda


def has_nvidia_gpu() -> bool:
    """Return whether nvidia-smi lists a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def pip(*arguments: str) -> None:
    """Run the environment's pip, its output in the log and the main steps on the terminal.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    environment = {
        key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "LD_LIBRARY_PATH"} or DISTRO
    }
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    with (
        LOG.open("a") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        for step in condensed(_logged(process.stdout, log)):
            print(f"  {step}", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _logged(lines: Iterable[str], log: TextIO) -> Iterator[str]:
    for line in lines:
        log.write(line)
        yield line


def rewrite_cmake_files() -> None:
    """Replace the include folders of the machine that built the ROS 2 wheels by those of this environment."""
    probe = "import json, numpy, sysconfig; print(json.dumps([sysconfig.get_path('include'), numpy.get_include()]))"
    output = subprocess.run([str(PYTHON), "-c", probe], capture_output=True, text=True, check=True).stdout
    python_headers, numpy_headers = json.loads(output)
    replacements = {
        r"/opt/python/[^;\"]*/numpy/(_?core)/include": numpy_headers,
        r"/opt/python/[^;\"]*/include/python[\d.]+": python_headers,
        # CMake refuses to export an include folder inside the source folder, and .venv is inside it.
        r" \$\{Python3_NumPy_INCLUDE_DIRS\}": " $<BUILD_INTERFACE:${Python3_NumPy_INCLUDE_DIRS}>",
    }
    for path in (VENV / "share").glob("*/cmake/*.cmake"):
        old = new = path.read_text()
        for pattern, replacement in replacements.items():
            new = re.sub(pattern, replacement, new)
        if new != old:
            path.write_text(new)


def write_shell_environment() -> None:
    """Write .venv/ros-env.sh for POSIX shells: this environment and, once it is built, the package in install/."""
    lines = [f'export VIRTUAL_ENV="{VENV}"', f'export PATH="{ROOT}/install/lib/smvae_ros:$VIRTUAL_ENV/bin:$PATH"']
    if not DISTRO:
        libraries = [
            str(VENV / "lib"),
            *sorted(str(path) for path in VENV.glob("lib/python*/site-packages/ros_*.libs")),
        ]
        lines += [
            f'export LD_LIBRARY_PATH="{":".join(libraries)}"',
            'export AMENT_PREFIX_PATH="$VIRTUAL_ENV"',
            'export CMAKE_PREFIX_PATH="$VIRTUAL_ENV"',
            "export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1",
        ]
    lines.append("unset COLCON_CURRENT_PREFIX")
    lines.append(f'if [ -f "{ROOT}/install/local_setup.sh" ]; then . "{ROOT}/install/local_setup.sh"; fi')
    (VENV / "ros-env.sh").write_text("\n".join(lines) + "\n")
    # install/setup.bash, .sh and .zsh source these first, as they would source an installed ROS 2.
    for shell in ("sh", "bash", "zsh"):
        (VENV / f"local_setup.{shell}").write_text(f'. "{VENV}/ros-env.sh"\n')


if __name__ == "__main__":
    sys.exit(main())
