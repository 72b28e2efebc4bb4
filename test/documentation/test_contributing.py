"""CONTRIBUTING.md and SUPPORT.md name files and modules that exist."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOUR = (ROOT / "CONTRIBUTING.md").read_text()
ENDINGS = r"(?:py|md|rst|yaml|xml|txt|toml)"


def named_files() -> list[str]:
    """Return every path with a folder, and each of `a.py, b.py` behind one as a file of the same folder."""
    found: list[str] = []
    for folder, name, more in re.findall(rf"((?:[\w.]+/)+)([\w.]+\.{ENDINGS})((?:, \w+\.{ENDINGS})*)", TOUR):
        found += [folder + name, *(folder + other for other in more.split(", ") if other)]
    return sorted(set(found))


def test_the_tour_names_files() -> None:
    assert len(named_files()) > 30


@pytest.mark.parametrize("name", named_files())
def test_a_file_of_the_tour_exists(name: str) -> None:
    assert (ROOT / name).is_file()


def new_modules() -> list[str]:
    """Return the right column of the table of moved modules, `.name` beside a module in full."""
    rows = re.findall(r"^\| `smvae_\S+.*?\| (.*) \|$", (ROOT / "SUPPORT.md").read_text(), re.MULTILINE)
    found: list[str] = []
    for row in rows:
        for name in re.findall(r"`([\w.]+)`", row):
            before = found[-1].rpartition(".")[0] if name.startswith(".") else ""
            found.append(before + name)
    return sorted({name.rstrip(".") for name in found if "." in name})


@pytest.mark.parametrize("name", new_modules())
def test_a_module_of_the_migrations_exists(name: str) -> None:
    assert find_spec(name)
