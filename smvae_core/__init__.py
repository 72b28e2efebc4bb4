"""Learned sensor fusion that bears missing sensors: the Set Multimodal VAE and its relatives, without ROS.

    from smvae_core import Engine, MultimodalVAE, Modality, ModelConfiguration

A folder is named after what it holds; from the ground up, each imports only what stands above it:

    errors, progress, files, device     errors, progress bars, safe writing, where a model runs
    interrupts                          Ctrl-C and SIGTERM that leave nothing behind
    modality, preprocessing             what a modality is, as data; a sensor's units to the model's and back
    configuration, checkpoint           the YAML of a training run; a whole model as one file
    subsets, scores                     subsets of the modalities; errors and normalised errors (NMSE)
    systems/                            SMVAE and the other papers' models, one file each
    model/                              networks, likelihoods, and the VAE that joins them to a system
    data/                               logs in, batches out
    training/                           `train`: logs in, a run (a folder) out
    evaluation/                         how good a model is, on held-out logs
    inference/                          `Engine`: one set at a time, fast
    plots/, simulation/, reproduce/     figures; logs from MuJoCo; the experiments of the papers
    cli/                                the `smvae` command

Start with `inference/engine.py` to run a model, and with `training/train.py` to train one. Importing this package alone
imports no torch: the four names above are found when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smvae_core.inference.engine import Engine
    from smvae_core.modality import Modality
    from smvae_core.model.vae import ModelConfiguration, MultimodalVAE

__version__ = "0.2.0"
__all__ = ["Engine", "Modality", "ModelConfiguration", "MultimodalVAE", "__version__"]

_MODULES = {
    "Engine": "smvae_core.inference.engine",
    "Modality": "smvae_core.modality",
    "ModelConfiguration": "smvae_core.model.vae",
    "MultimodalVAE": "smvae_core.model.vae",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'smvae_core' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
