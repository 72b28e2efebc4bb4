"""What pip is doing, in a few lines."""

import re
from collections.abc import Iterable, Iterator

_LARGE_MB = 10.0
_EVERY = 25
"""Packages between two lines on their number."""


def condensed(lines: Iterable[str]) -> Iterator[str]:
    """Yield one line for every 25 packages found, each large download, each package built, and the installation."""
    found = 0
    for line in lines:
        if re.match(r"Collecting |Processing ", line):
            found += 1
            if found % _EVERY == 0:
                yield f"{found} packages found"
        elif download := re.match(r"\s+Downloading (\S+?)-(\d\S*?)-\S+ \((\d[\d.]*) ([MG])B\)", line):
            name, version, size, unit = download.groups()
            megabytes = float(size) * (1000 if unit == "G" else 1)
            if megabytes >= _LARGE_MB:
                yield f"downloading {name} {version} ({megabytes:.0f} MB)"
        elif built := re.match(r"\s+Building wheel for (\S+) .*: started", line):
            yield f"building {built[1]}"
        elif installed := re.match(r"Installing collected packages: (.*)", line):
            yield f"installing {len(installed[1].split(', '))} packages"
