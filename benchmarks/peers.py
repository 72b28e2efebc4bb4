"""An environment of its own for the packages of others that benchmarks compare with, beside everything of ours."""

import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".venv-peers"
_PACKAGES = ("multivae==1.0.3", "pythae==0.1.2", "tqdm==4.70.1")
"""Without what they require: torch and NumPy are ours, and their data sets and metrics are not used."""
_LIMIT_S = 300.0


def python() -> Path:
    """Return the Python of the environment, which is made, or made anew after another list of packages, if need be."""
    found, list_of = FOLDER / "bin" / "python", FOLDER / "packages.txt"
    wanted = "\n".join((sys.executable, *_PACKAGES))
    if found.exists() and list_of.exists() and list_of.read_text() == wanted:
        return found
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True, timeout=_LIMIT_S)
    (FOLDER / "COLCON_IGNORE").touch()
    pip = [str(found), "-m", "pip", "install", "--quiet", "--no-deps", *_PACKAGES]
    subprocess.run(pip, check=True, timeout=_LIMIT_S)
    (site,) = FOLDER.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    list_of.write_text(wanted)
    return found
