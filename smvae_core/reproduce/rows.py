"""The rows of an experiment's tables: every system, and SMVAE with other objectives.

This module imports no torch, so that the command line can list the rows at once.
"""

from dataclasses import dataclass, field
from typing import Any

from smvae_core.systems.registry import SYSTEMS

PAPER: dict[str, Any] = {"subset_kl": 0.0, "full_kl": 0.0, "full_set": 0.0, "reconstruct": "observed"}
"""The objective of the SMVAE paper (Eq. 3 and 4), as in `smvae_core.systems.smvae.PAPER`."""
CORRUPTION: dict[str, dict[str, float]] = {
    "images": {"blank": 0.1, "partly_blank": 0.1, "noisy": 0.05, "another": 0.05},
    "numbers": {"blank": 0.05, "another": 0.05},
}
"""The corruption of the rows that have it, as in config/peg_insertion.yaml."""


@dataclass(frozen=True)
class Row:
    """A system with settings of its objective.

    Attributes:
        name: what tables, folders and the command line call it.
        system: a registered system.
        objective: settings that differ from the system's defaults.
        corrupted: whether what subsets see is corrupted in training, see `CORRUPTION`.
        memory: settings of the memory; None for a model of single sets.
        sequences: settings of the sequences that differ from the defaults.
        meaning: what it is, for the report; empty for a system as it is by default.
    """

    name: str
    system: str
    objective: dict[str, Any] = field(default_factory=dict)
    meaning: str = ""
    corrupted: bool = False
    memory: dict[str, Any] | None = None
    sequences: dict[str, Any] = field(default_factory=dict)


_OTHERS = (
    # Without random subsets MVAE sees, of more than two modalities, only everything and each one alone.
    Row("mvae", "mvae", {"random_subsets": 1}, "MVAE with one random subset in each step (k = 1)"),
    Row("smvae-paper", "smvae", PAPER, "SMVAE with the objective of its paper: the ELBO of random subsets"),
    Row("smvae-pull", "smvae", PAPER | {"pull": 0.1}, "the same with the L2 pull of §3.2, weight 0.1"),
)
_PARTS = (
    Row("smvae-robust", "smvae", {}, "SMVAE with corrupted subsets", corrupted=True),
    Row(
        "robust-uncoordinated",
        "smvae",
        {"subset_kl": 0.0, "full_kl": 0.0, "full_set": 0.2},
        "the same without coordination: the ELBO of random subsets, one in five of them whole",
        corrupted=True,
    ),
    Row(
        "robust-unpredicted",
        "smvae",
        {"subset_likelihood": 0.0},
        "smvae-robust without prediction from the subset (r = 0)",
        corrupted=True,
    ),
)
_MEMORY: dict[str, Any] = {"size": 256, "horizon": 10.0, "spacing": 0.05}
_REMEMBERING = (
    Row("smvae-memory", "smvae", {}, "SMVAE with memory and corrupted subsets", corrupted=True, memory=_MEMORY),
    Row(
        "memory-always",
        "smvae",
        {},
        "the same with memory in every window of the training, where smvae-memory has a fifth without",
        corrupted=True,
        memory=_MEMORY,
        sequences={"absent": 0.0},
    ),
    Row(
        "memory-no-bursts",
        "smvae",
        {},
        "smvae-memory with modalities dropped at random moments, never for a while",
        corrupted=True,
        memory=_MEMORY,
        sequences={"longest_outage": 0.0},
    ),
)
SYSTEM_ROWS = (*SYSTEMS, *(row.name for row in _OTHERS if row.name not in SYSTEMS))
"""The rows of the papers' experiments, in the order of the tables."""
ABLATION_ROWS = (*(row.name for row in _PARTS), "smvae")
"""The rows of the ablation; `smvae` is the one without corruption."""
MEMORY_ROWS = (*(row.name for row in _REMEMBERING), "smvae-robust")
"""The rows of the ablation of memory; `smvae-robust` is the one without."""
ROWS: dict[str, Row] = {s: Row(s, s) for s in SYSTEMS} | {row.name: row for row in (*_OTHERS, *_PARTS, *_REMEMBERING)}
"""By name."""
