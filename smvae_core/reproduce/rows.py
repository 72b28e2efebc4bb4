"""The rows of an experiment's tables: every system, and SMVAE with other objectives.

This module imports no torch, so that the command line can list the rows at once.
"""

from dataclasses import dataclass, field
from typing import Any

from smvae_core.systems.registry import SYSTEMS

PAPER: dict[str, Any] = {"subset_kl": 0.0, "full_kl": 0.0, "full_set": 0.0, "reconstruct": "observed"}
"""The objective of the SMVAE paper (Eq. 3 and 4), as in `smvae_core.systems.smvae.PAPER`."""


@dataclass(frozen=True)
class Row:
    """A system with settings of its objective.

    Attributes:
        name: what tables, folders and the command line call it.
        system: a registered system.
        objective: settings that differ from the system's defaults.
        meaning: what it is, for the report; empty for a system as it is by default.
    """

    name: str
    system: str
    objective: dict[str, Any] = field(default_factory=dict)
    meaning: str = ""


_OTHERS = (
    # Without random subsets MVAE sees, of more than two modalities, only everything and each one alone.
    Row("mvae", "mvae", {"random_subsets": 1}, "MVAE with one random subset in each step (k = 1)"),
    Row("smvae-paper", "smvae", PAPER, "SMVAE with the objective of its paper: the ELBO of random subsets"),
    Row("smvae-pull", "smvae", PAPER | {"pull": 0.1}, "the same with the L2 pull of §3.2, weight 0.1"),
)
ROWS: dict[str, Row] = {system: Row(system, system) for system in SYSTEMS} | {row.name: row for row in _OTHERS}
"""By name."""
