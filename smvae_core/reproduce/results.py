"""The results of one row with one seed: a JSON file beside its run, so that nothing is trained or judged twice."""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from smvae_core.calibration import Calibration
from smvae_core.configuration import Configuration
from smvae_core.errors import explain
from smvae_core.evaluation.judgement import Baselines
from smvae_core.evaluation.outages import Outages
from smvae_core.evaluation.probes import ProbeScores
from smvae_core.files import write_atomically
from smvae_core.reproduce.coherence import Coherence
from smvae_core.reproduce.experiments import Name, ReproductionError
from smvae_core.scores import Evaluation


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Record):
    """A mean over the test points, in nats, and its (unpaired) standard error."""

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
    """All that the figures of one row depend on.

    Attributes:
        row: name of the row; empty in results of version 0.1, where it is the system.
        data: folder.
        test_points: number of held-out samples that were judged, evenly spaced; None for all.
        draws: importance samples for each test point.
        prior_draws: samples of the prior, for log p(y).
        map_points: number of samples in the map of the latent.
        precision: of the networks.
    """

    experiment: Name
    row: str = ""
    data: str
    configuration: Configuration
    test_points: int | None
    draws: int
    prior_draws: int
    map_points: int
    precision: str


class Figures(_Record):
    """The figures of one trained model.

    Attributes:
        likelihoods: none of an experiment over subsets.
        coherence: None of an experiment over subsets.
        evaluation: errors by subset.
        calibration: by subset; None of an experiment with likelihoods, and in results of version 0.1.
        baselines: errors of predictions that need no learning; None as for `calibration`.
        probes: by subset; none where there are no labels of contact and pose.
        outages: errors while all images are off; None of an experiment that has none.
    """

    likelihoods: tuple[Likelihoods, ...] = ()
    coherence: Coherence | None = None
    evaluation: Evaluation
    calibration: Calibration | None = None
    baselines: Baselines | None = None
    probes: tuple[ProbeScores, ...] = ()
    outages: Outages | None = None


class SystemResult(Figures):
    """The figures of one row with one seed, and what they came from.

    Attributes:
        quick: fewer epochs, points and draws than the paper.
        data: where the data came from: folder name, samples trained on and held out.
        training_seconds: of all epochs.
        judging_seconds: of everything after them.
        device: in words.
        versions: of what computed it.
        date: when it was finished.
        parameters: number of weights.
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

    @property
    def row(self) -> str:
        """The name of the row."""
        return self.settings.row or self.settings.configuration.model.system

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.settings.configuration.training.seed


def read_result(path: Path) -> SystemResult | None:
    """Return the result in a file; None if there is no such file.

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
    """Write a result, atomically.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, (result.model_dump_json(indent=2) + "\n").encode())


class Published(NamedTuple):
    """One row of a paper; a figure that it does not give is None.

    Attributes:
        system: as the table calls it.
        source: paper and table.
        given: modalities of the importance distribution: `x,y` or `x`.
        joint: log p(x, y).
        marginal: log p(x).
        conditional: log p(x | y).
    """

    system: str
    source: str
    given: str
    joint: float | None
    marginal: float | None
    conditional: float | None

    @property
    def consistent(self) -> bool | None:
        """Whether the row keeps log p(x, y) ≤ log p(x) and log p(x | y) ≥ log p(x, y); None where that is unknown."""
        return consistent(self.joint, self.marginal, self.conditional)


def consistent(joint: float | None, marginal: float | None, conditional: float | None) -> bool | None:
    """Return whether log p(x, y) ≤ log p(x) and log p(x | y) ≥ log p(x, y), as for every discrete y (log p(y) ≤ 0)."""
    if joint is None or marginal is None:
        return None
    return joint <= marginal and (conditional is None or conditional >= joint)


def _rows(system: str, both: tuple[float | None, ...], image: tuple[float | None, ...]) -> tuple[Published, Published]:
    source = "SMVAE paper, Table 1"
    return Published(system, source, "x,y", *both), Published(system, source, "x", *image)


_CALIBRATION = "MVAE paper; 500 epochs, β annealed over 200"


TABLE_1: dict[str, tuple[Published, ...]] = {
    "fashion-mnist": (
        *_rows("smvae", (-225.10, -230.81, -232.85), (-225.14, -232.36, -232.84)),
        *_rows("jmvae", (-232.70, -232.40, -230.65), (-232.94, -232.63, -230.39)),
        *_rows("mvae", (-233.01, -232.54, -230.69), (-233.01, -232.53, -230.69)),
        *_rows("mmvae", (-235.37, -233.16, -231.32), (-231.25, -235.18, -237.64)),
        Published("vae", _CALIBRATION, "x", None, -232.758, None),
        Published("jmvae", _CALIBRATION, "x", -232.948, -232.630, -230.396),
        Published("mvae", _CALIBRATION, "x", -233.007, -232.535, -230.695),
    ),
    "mnist": (
        *_rows("smvae", (-83.41, -89.38, -86.45), (-83.46, -89.09, -86.47)),
        *_rows("jmvae", (-91.03, -90.962, -88.43), (-90.76, -90.69, -88.69)),
        *_rows("mvae", (-90.85, -90.616, -88.55), (-90.85, -90.61, -88.56)),
        *_rows("mmvae", (-91.53, -91.23, -90.64), (-91.75, -91.11, -90.01)),
        *_rows("mopoe", (-90.16, -90.29, None), (-91.36, -91.77, None)),
    ),
    "celeba": (
        *_rows("smvae", (-6000.95, -6087.91, -6085.31), (-6025.38, -6080.86, -6084.94)),
        *_rows("jmvae", (-6238.28, -6234.54, -6235.33), (-6242.19, -6237.97, -6231.46)),
        *_rows("mvae", (-6241.62, -6237.10, -6235.36), (-6242.03, -6236.92, -6234.95)),
        *_rows("mmvae", (-6513.43, -6560.57, -6516.14), (-6255.45, -6284.28, -6290.74)),
    ),
}
"""By experiment."""
