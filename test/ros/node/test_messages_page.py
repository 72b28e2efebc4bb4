"""docs/messages.md explains every warning, error and diagnostic sentence of the node, and quotes only real ones."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NODE = ROOT / "smvae_ros" / "node"
PAGE = (ROOT / "docs" / "messages.md").read_text()
# Where sentences are made that the log or diagnostics show.
SENTENCES = ("diagnostics.py", "sensor_watch.py", "qos_overrides.py", "publisher_check.py", "publications.py")
LOGGED = {"warning", "error", "fatal", "warn"}
# Levels without a problem, and parts of sentences that need no explanation of their own.
PLAIN = re.compile(r"disabled| Hz| sets a second|closing summary|[^a-z]*")
LEAST = 12


def literals(node: ast.AST) -> list[str]:
    """Return the constant parts of the strings in an expression."""
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def source_text() -> str:
    """Return all string constants of the robot side, f-strings with … for what they insert."""
    texts = []
    for path in sorted((ROOT / "smvae_ros").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def logged() -> list[tuple[str, str]]:
    """Return file and longest constant part of each text that the node logs as a warning or worse."""
    found = []
    for path in sorted(NODE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOGGED:
                found.append(
                    (path.name, max((text for arg in node.args for text in literals(arg)), key=len, default=""))
                )
            elif (
                isinstance(node, ast.Return)
                and isinstance(node.value, ast.JoinedStr | ast.Constant | ast.Tuple | ast.BinOp)
                and path.name in SENTENCES
            ):
                found.append((path.name, max(literals(node.value), key=len, default="")))
    return [(file, text.strip(" :;,(")) for file, text in found if len(text) >= LEAST and not PLAIN.fullmatch(text)]


@pytest.mark.parametrize(("file", "text"), logged())
def test_every_sentence_of_log_and_diagnostics_is_on_the_page(file: str, text: str) -> None:
    assert text in PAGE, f"{file}: add a row for it to docs/messages.md"


def test_the_page_quotes_only_sentences_that_the_source_makes() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    source = source_text()
    for row in rows:
        quoted = row.split("`")[1]
        for part in quoted.split("…"):
            part = part.strip(" :;,()'")
            assert len(part) < 4 or part in source, f"no source has '{part}', of `{quoted}`"


def test_every_row_says_what_to_do_or_refers_to_another() -> None:
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            _, _, cause, _, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", line))
            assert cause
