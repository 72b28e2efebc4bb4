"""Print the requirements of setup.cfg that this Python does not meet, as arguments of `pip install`.

Extras may be named as arguments: `python3 environment/missing.py onnx sim`.
"""

import configparser
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

# Debian's packages of these leave no metadata that pip would see.
MODULES = {"opencv-python-headless": "cv2"}


def main() -> None:
    """Print one requirement a line; exit code 2 for an extra that setup.cfg lacks."""
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).resolve().parent.parent / "setup.cfg")
    extras = settings["options.extras_require"]
    if unknown := [name for name in sys.argv[1:] if name not in extras]:
        print(f"error: expected extras among {', '.join(extras)}, found {', '.join(unknown)}", file=sys.stderr)
        sys.exit(2)
    texts = [settings["options"]["install_requires"], *(extras[name] for name in sys.argv[1:])]
    for line in "\n".join(texts).split():
        if not met(Requirement(line)):
            print(line)


def met(requirement: Requirement) -> bool:
    """Return whether an installed version meets a requirement."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        try:
            found = import_module(MODULES.get(requirement.name, "")).__version__
        except (ImportError, ValueError):
            return False
    return requirement.specifier.contains(found, prereleases=True)


if __name__ == "__main__":
    main()
