"""Coherence: whether generated data agree with the given data, as a classifier of real data sees them.

The measure of the MMVAE and MoPoE papers for an image and a label (categorical) or attributes (Bernoulli).
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from smvae_core.data.samples import Samples
from smvae_core.files import write_atomically
from smvae_core.modality import Modality
from smvae_core.model.networks import SIZES, embedding_network
from smvae_core.model.vae import MultimodalVAE
from smvae_core.progress import progress_bar
from smvae_core.subsets import evenly

_BATCH = 100


class Coherence(BaseModel):
    """Fractions of right answers, 0 to 1; for attributes the mean over them.

    Attributes:
        samples: number of samples judged.
        classifier: of the classifier on real images: the most that can be reached.
        generated: of the classifier on images that were generated from the label alone, against that label.
        predicted: of the label predicted from the image alone, against the true one.
        unconditional: of the classifier against the label, both generated from one draw of the prior.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int
    classifier: float
    generated: float
    predicted: float
    unconditional: float


class Classifier(nn.Module):
    """A network from an image to the logits of its label."""

    def __init__(self, image: Modality, label: Modality) -> None:
        super().__init__()
        sizes = SIZES["compact"]
        self.image, self.label = image, label
        self.network = nn.Sequential(embedding_network(image, sizes), nn.Linear(sizes.embedding, label.shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *image.shape) to (B, classes)."""
        logits: Tensor = self.network(x)
        return logits


def classifier(
    path: Path, samples: Samples, names: tuple[str, str], epochs: int, device: torch.device, console: Console
) -> Classifier:
    """Return the classifier in `path`; train it first if the file has none of these samples and epochs.

    Args:
        samples: real data to train on.
        names: of the image and the label.

    Raises:
        OSError: it cannot be written.
    """
    image, label = (next(m for m in samples.modalities if m.name == name) for name in names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Classifier(image, label).to(device)
    trained_on = _described(samples, names, epochs)
    if path.is_file():
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                if file.metadata() == trained_on:
                    network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
                    return network.eval()
        except (SafetensorError, RuntimeError):
            pass
        console.print(f"{path}: not the classifier of these data; training it again", markup=False)
    _train(network, samples, epochs, console)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, to_bytes(weights, metadata=trained_on))
    return network.eval()


@torch.inference_mode()
def coherence(
    model: MultimodalVAE, judge: Classifier, samples: Samples, most: int | None = None, seed: int = 0
) -> Coherence:
    """Judge generations from one draw of the latent for each sample; the same input gives the same figures.

    Args:
        most: use at most so many samples, evenly spaced.
    """
    image, label = judge.image.name, judge.label.name
    device = next(model.parameters()).device
    generator, index = torch.Generator().manual_seed(seed), evenly(len(samples), most)
    columns = {name: torch.tensor([n == name for n in model.names]) for name in (image, label)}
    right = torch.zeros(4, dtype=torch.float64)
    training = model.training
    model.eval()
    for rows in np.array_split(index, -(-len(index) // _BATCH)):
        batch = {name: x.to(device) for name, x in samples.batch(rows)[0].items()}
        noise = torch.randn(2, len(rows), model.configuration.latent, generator=generator).to(device)
        choice = torch.rand(len(rows), generator=generator).to(device)
        drawn = {
            given: model.posterior(batch, mask.expand(len(rows), -1)).sample(noise[0], choice)
            for given, mask in columns.items()
        }
        prior = model.predict(noise[1], [image, label])
        answers = (
            (judge(batch[image]), batch[label]),
            (judge(model.predict(drawn[label], [image])[image]), batch[label]),
            (model.decode(drawn[image], [label])[label], batch[label]),
            (judge(prior[image]), prior[label]),
        )
        right += torch.stack([_right(judge.label, *answer) for answer in answers]).cpu()
    model.train(training)
    classifier, generated, predicted, unconditional = (right / len(index)).tolist()
    return Coherence(
        samples=len(index),
        classifier=classifier,
        generated=generated,
        predicted=predicted,
        unconditional=unconditional,
    )


def _described(samples: Samples, names: tuple[str, str], epochs: int) -> dict[str, str]:
    """Return what distinguishes a classifier from one of other data or of another scale."""
    some = samples.batch(evenly(len(samples), _BATCH))[0]
    digest = hashlib.sha256(b"".join(some[name].numpy().tobytes() for name in names)).hexdigest()
    return {"epochs": str(epochs), "samples": str(len(samples)), "of_some": digest}


def _right(label: Modality, logits: Tensor, truth: Tensor) -> Tensor:
    if label.likelihood == "categorical":
        return (logits.argmax(dim=1) == truth.argmax(dim=1)).double().sum()
    return ((logits > 0) == (truth > 0.5)).double().mean(dim=1).sum()


def _train(network: Classifier, samples: Samples, epochs: int, console: Console) -> None:
    device, categorical = next(network.parameters()).device, network.label.likelihood == "categorical"
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    network.train()
    with progress_bar(console) as bar:
        batches = -(-len(samples) // _BATCH)
        task = bar.add_task("classifier", total=epochs * batches, figures="")
        for epoch in range(epochs):
            order = np.random.default_rng([0, epoch]).permutation(len(samples))
            for rows in np.array_split(order, batches):
                batch = {name: x.to(device) for name, x in samples.batch(np.sort(rows))[0].items()}
                logits, truth = network(batch[network.image.name]), batch[network.label.name]
                loss = (
                    F.cross_entropy(logits, truth) if categorical else F.binary_cross_entropy_with_logits(logits, truth)
                )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                bar.advance(task)
