"""The commands and the Python of the pages work.

Commands of `smvae` in `bash` blocks are run, on less data and with the smallest networks; those in `sh` blocks need a
running robot or a data set that is not shipped. Of other commands, the names that they use are looked up.
"""

import configparser
import re
import shlex
import shutil
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import torch

from smvae_core.modality import Modality
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Vector

from ..core.made_data import write_idx, write_pictures
from ..programs import run
from .bags import write_thinned, write_two_camera_bag

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}

LESS = {
    r"--trajectories \d+ --steps \d+": "--trajectories 4 --steps 12",
    r"--epochs \d+": "--epochs 1",
    r"(smvae evaluate .*)": r"\1 --most 8",
    r"(smvae reproduce fashion-mnist) --quick (.*)": (
        r"\1 --quick --data idx --systems smvae --epochs 1 --test-points 6 --draws 2 \2"
    ),
    r"(smvae reproduce vision) (.*)": r"\1 --quick --systems smvae --epochs 1 \2",
    r"(smvae train (?!.*--epochs).*)": r"\1 --epochs 1",
    r"--size compact": "--config config/tiny.yaml",
}
"""How a test shortens a long command."""

OF_OTHERS = ("mkdir", "cd", "git", "rosdep", "colcon", "source", ".", "pytest", "touch", "python3", "ros2")
"""Programs that are not ours to test."""


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page's bash blocks in their order, as words."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    bare = [list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), command)) for command in words]
    return [command for command in bare if command]


def python(page: str) -> str:
    """Return the Python blocks of a page, which build on each other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE))


def numbers(name: str) -> Modality:
    return Modality(name=name, source=name, preprocessing=Vector(size=3), network="vector", likelihood="categorical")


def pages_of_smvae() -> list[Any]:
    """Return the pages with commands of smvae; those that simulate need off-screen drawing."""
    used = {page: [words[1] for words in commands(page) if words[0] == "smvae"] for page in PAGES}
    marks = {page: [pytest.mark.rendering] if "simulate" in names else [] for page, names in used.items()}
    return [pytest.param(page, marks=marks[page]) for page, names in used.items() if names]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each shipped recording, with fewer moments."""
    folder = tmp_path_factory.mktemp("shipped") / "recordings"
    for recording in (ROOT / "recordings").iterdir():
        write_thinned(recording, folder / recording.name)
    return folder


def write_smallest(folder: Path) -> None:
    """Write the shipped configurations with the smallest networks, and `tiny.yaml`, which says nothing else."""
    folder.mkdir()
    for path in (ROOT / "config").glob("*.yaml"):
        (folder / path.name).write_text(re.sub(r"\bsize: (compact|paper)\b", "size: tiny", path.read_text()))
    (folder / "tiny.yaml").write_text("model: {size: tiny}\n")


@pytest.mark.parametrize("page", pages_of_smvae())
def test_the_commands_of_a_page_run_one_after_the_other(page: str, recordings: Path, tmp_path: Path) -> None:
    write_smallest(tmp_path / "config")
    (tmp_path / "recordings").symlink_to(recordings)
    write_idx(tmp_path / "idx")
    write_pictures(tmp_path / "photos")
    if page == "docs/your-robot.md":
        for day in ("monday", "tuesday"):
            write_two_camera_bag(tmp_path / "bags" / day)
    for command in (shlex.join(c) for c in commands(page) if c[0] == "smvae"):
        for long, short in LESS.items():
            command = re.sub(long, short, command)
        program, *arguments = shlex.split(command)
        done = run([shutil.which(program), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_names_in_other_commands_exist(page: str) -> None:
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg")
    for program, *words in commands(page):
        if program == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[0] in targets, words
        elif program == "pip":
            for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)):
                assert extra in extras["options.extras_require"], words
        elif program == "ros2" and words[0] == "run":
            assert f"\n{words[2]} = " in extras["options.entry_points"]["console_scripts"] + "\n", words
        elif program == "ros2" and words[:2] == ["launch", "smvae_ros"]:
            launched = (ROOT / "launch" / words[2]).read_text() + (ROOT / "launch" / "fusion.launch.py").read_text()
            for argument in words[3:]:
                name = argument.partition(":=")[0]
                assert argument == "--show-args" or f'DeclareLaunchArgument(\n                "{name}"' in launched, (
                    words
                )
        else:
            assert program == "smvae" or program in OF_OTHERS, f"{page}: nothing tests {program}"


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    modalities = tuple(numbers(name) for name in ("rgb", "force", "image", "label"))
    model = MultimodalVAE(ModelConfiguration(size="tiny", modalities=modalities))
    # Names that a page uses without making them.
    given = {"model": model, "batch": {modality.name: torch.rand(2, 3) for modality in modalities}}
    exec(compile(python(page), page, "exec"), given)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"
