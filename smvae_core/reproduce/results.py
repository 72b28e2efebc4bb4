"""What an experiment found of one system: one JSON file beside its run, so that nothing is trained or judged twice."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from smvae_core.checkpoint import write_atomically
from smvae_core.configuration import Configuration
from smvae_core.errors import explain
from smvae_core.evaluation import Evaluation
from smvae_core.metrics.probes import ProbeScores
from smvae_core.reproduce.coherence import Coherence
from smvae_core.reproduce.experiments import Name, ReproductionError
from smvae_core.reproduce.published import consistent


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Record):
    """A mean over the test points, in nats, and its standard error over them."""

    mean: float
    error: float


class Likelihoods(_Record):
    """One row of the likelihood table.

    Attributes:
        given: modalities of the importance distribution: `x,y` or `x`.
        joint: log p(x, y).
        marginal: log p(x).
        conditional: log p(x | y).
    """

    given: str
    joint: Figure
    marginal: Figure
    conditional: Figure

    @property
    def consistent(self) -> bool:
        """Whether both inequalities of a discrete y hold."""
        return bool(consistent(self.joint.mean, self.marginal.mean, self.conditional.mean))


class Settings(_Record):
    """All that decides about the figures of one system.

    Attributes:
        data: folder.
        test_points: judged, evenly spaced; None for all.
        draws: importance samples a point.
        prior_draws: samples of the prior, for log p(y).
        map_points: in the map of the latent.
        precision: of the networks.
    """

    experiment: Name
    data: str
    configuration: Configuration
    test_points: int | None
    draws: int
    prior_draws: int
    map_points: int
    precision: str


class SystemResult(_Record):
    """Figures of one system with one seed.

    Attributes:
        quick: fewer epochs, points and draws than the paper.
        data: where the data came from: folder name, samples trained on and held out.
        training_seconds: of all epochs.
        judging_seconds: of everything after them.
        device: in words.
        versions: of what computed it.
        date: when it was finished.
        parameters: numbers in the weights.
        likelihoods: none of an experiment over subsets.
        coherence: None of an experiment over subsets.
        evaluation: errors by subset.
        probes: by subset; none where there are no labels of contact and pose.
    """

    settings: Settings
    quick: bool
    data: str
    training_seconds: float
    judging_seconds: float
    device: str
    versions: dict[str, str]
    date: str
    parameters: int
    likelihoods: tuple[Likelihoods, ...] = ()
    coherence: Coherence | None = None
    evaluation: Evaluation
    probes: tuple[ProbeScores, ...] = ()

    @property
    def system(self) -> str:
        """Which of the six."""
        return self.settings.configuration.model.system

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.settings.configuration.training.seed


def read_result(path: Path) -> SystemResult | None:
    """The result of a file, None where there is none.

    Raises:
        ReproductionError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return SystemResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ReproductionError(f"{path}: expected a result of smvae reproduce, found {explain(error)}") from None


def write_result(path: Path, result: SystemResult) -> None:
    """Write it, atomically.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, (result.model_dump_json(indent=2) + "\n").encode())
