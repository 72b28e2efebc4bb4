"""What both programs of the closed loop are asked, in lock-step time and over topics, and what their answers choose."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.insertion import CONDITIONS, Condition, Task
from benchmarks.report import RESULTS
from smvae_core import checkpoint
from smvae_core.errors import SMVAEError
from smvae_core.simulation.policy import Phase


def parser(description: str | None, attempts: int) -> ArgumentParser:
    """Return a parser of the arguments that both programs have; `attempts` is the default of --attempts."""
    made = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    made.add_argument("--logs", type=Path, required=True, help="folder of simulated logs of the fixed scene")
    made.add_argument("--out", type=Path, required=True, help="folder for heads and outcomes, to go on from")
    made.add_argument("--task", choices=[task.value for task in Task], default=Task.CONTACT.value)
    made.add_argument("--attempts", type=int, default=attempts, help="of each feed under each condition")
    made.add_argument("--conditions", nargs="+", metavar="NAME", help="only conditions whose names hold one of these")
    made.add_argument("--feeds", nargs="+", metavar="NAME", help="only these, by their whole names")
    made.add_argument("--results", type=Path, default=RESULTS)
    return made


def checkpoint_path(arguments: Namespace) -> Path:
    """Return the file of the checkpoint."""
    return Path(arguments.checkpoint or checkpoint.default_checkpoint()).resolve()


def possible_conditions(task: Task) -> list[Condition]:
    """Return the conditions that a task can be put under: a peg that searches has touched before."""
    return [one for one in CONDITIONS if task is Task.INSERTION or one.phase is not Phase.SEARCH]


def chosen_conditions(arguments: Namespace) -> list[Condition]:
    """Return the conditions that --conditions names, or all that the task can be put under.

    Raises:
        SMVAEError: it names none.
    """
    possible = possible_conditions(Task(arguments.task))
    if not arguments.conditions:
        return possible
    if chosen := [one for one in possible if any(part in one.name for part in arguments.conditions)]:
        return chosen
    raise SMVAEError(f"--conditions: expected parts of {', '.join(one.name for one in possible)}")


def chosen_feeds(arguments: Namespace, possible: Sequence[str]) -> list[str]:
    """Return the feeds that --feeds names, or all that there are.

    Raises:
        SMVAEError: it names one that there is not.
    """
    if unknown := sorted(set(arguments.feeds or ()) - set(possible)):
        raise SMVAEError(f"--feeds: expected some of {'; '.join(possible)}, found {'; '.join(unknown)}")
    return [one for one in possible if not arguments.feeds or one in arguments.feeds]
