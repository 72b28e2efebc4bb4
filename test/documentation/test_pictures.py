"""The pictures of README are there, and small enough to load with the page."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_BYTES = 3_000_000


def test_each_picture_of_readme_is_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert "docs/live.gif" in pictures
    assert all(0 < (ROOT / picture).stat().st_size < MOST_BYTES for picture in pictures)
