"""Start of a training from the weights of another model."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from smvae_core import checkpoint
from smvae_core.errors import SMVAEError
from smvae_core.model.vae import MultimodalVAE


class InitialisationError(SMVAEError):
    """A checkpoint of which no weights fit the model."""


class Initialised(NamedTuple):
    """Which weights a model has from a checkpoint.

    Attributes:
        taken: parts whose weights come from it.
        new: parts that stay new.
        left: parts of the checkpoint that the model has no place for.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]

    def told(self, path: Path) -> str:
        """Return one sentence that says which weights come from the checkpoint `path`."""
        new = f"; new are {', '.join(self.new)}" if self.new else ""
        left = f"; not used are its weights of {', '.join(self.left)}" if self.left else ""
        return f"starting from {path}: weights of {', '.join(self.taken)} are taken{new}{left}"


def initialise(model: MultimodalVAE, path: Path) -> Initialised:
    """Copy the weights of a checkpoint into the parts of a model that they fit.

    A part is the embedding network or the decoder of one modality, or a layer of the posterior network or of memory. It
    is taken if the checkpoint has a part of the same name and all its weights have the same shapes.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, foreign, or newer than this package.
        InitialisationError: no part fits.
    """
    stored = checkpoint.load(path).model.state_dict()
    own = model.state_dict()
    parts = dict.fromkeys(_part(name) for name in own)
    fits = {part: _shapes(own, part) == _shapes(stored, part) for part in parts}
    if not any(fits.values()):
        raise InitialisationError(
            f"{path}: expected a model with modalities among {', '.join(model.names)} and networks of size "
            f"'{model.configuration.size}', found none whose weights fit"
        )
    model.load_state_dict({name: stored[name] if fits[_part(name)] else value for name, value in own.items()})
    return Initialised(
        _told(part for part in parts if fits[part]),
        _told(part for part in parts if not fits[part]),
        _told(part for part in map(_part, stored) if not fits.get(part)),
    )


def recipe(command: str, init: Path | None) -> str:
    """Return the commands, one a line, that do a training again: those of the checkpoint that it starts from, first.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, foreign, or newer than this package.
    """
    earlier = checkpoint.read_metadata(init).training if init is not None else None
    return "\n".join(dict.fromkeys([*(earlier.commands if earlier else ()), command]))


def _part(name: str) -> str:
    pieces = name.split(".")
    depth = 3 if pieces[:2] == ["fusion", "experts"] else 2
    return ".".join(pieces[:depth])


def _shapes(weights: dict[str, Tensor], part: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items() if _part(name) == part}


def _told(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_title, parts)))


def _title(part: str) -> str:
    kind, _, name = part.partition(".")
    if kind == "memory" or part == "fusion.experts.memory":
        return "the memory"
    if kind == "embeddings":
        return f"the embedding of {name}"
    return f"the decoder of {name}" if kind == "decoders" else f"the posterior's {name}"
