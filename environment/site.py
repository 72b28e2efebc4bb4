"""Hooks of mkdocs: the site has the repository's layout, so that a link works alike in the site and beside the files.

Pages are README.md (the front page), the other Markdown files of PAGES, those of docs/, and one page for each folder of
modules, with the docstrings of its public names. Files that a page links to are copied into the site.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "SUPPORT.md", "benchmarks/RESULTS.md")
PACKAGES = ("smvae_core", "smvae_ros")
LINK = re.compile(r"\]\(<?([^)>\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of modules to the navigation."""
    assert config.nav is not None
    config.nav.append({"Modules": [{name: f"modules/{name}.md"} for name in module_folders()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the pages, the files that they link to, and the theme's own files."""
    pages = [*PAGES, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    found = [file for file in files if not Path(str(file.abs_src_path)).is_relative_to(ROOT / "docs")]
    for name in [*pages, *sorted(linked_files(pages))]:
        found.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name, folder in module_folders().items():
        found.append(File.generated(config, f"modules/{name}.md", content=module_page(name, folder)))
    return Files(found)


def linked_files(pages: list[str]) -> set[str]:
    """Return the files of the repository that pages link to, pages left out."""
    linked = set()
    for page in pages:
        for url in LINK.findall((ROOT / page).read_text()):
            scheme, _, path, _, _ = urlsplit(url)
            target = (ROOT / page).parent.joinpath(path).resolve()
            if not scheme and path and target.is_file():
                linked.add(target.relative_to(ROOT).as_posix())
    return linked - set(pages)


def module_folders() -> dict[str, Path]:
    """Return the folders of both packages by their dotted names, in alphabetical order."""
    inits = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py"))
    return {".".join(path.parent.relative_to(ROOT).parts): path.parent for path in inits}


def module_page(name: str, folder: Path) -> str:
    """Return the page of a folder: its docstring, then each of its public modules."""
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    own = f"::: {name}\n    options:\n      heading_level: 2\n      members: []\n      show_root_heading: false\n"
    each = [f"::: {name}.{module}\n    options:\n      heading_level: 2\n" for module in modules]
    return "\n".join([f"# {name}\n", own, *each])
