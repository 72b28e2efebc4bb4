"""Export of a whole model as one ONNX file, for runtimes other than the engine (needs the extra 'onnx')."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import smvae_core
from smvae_core.checkpoint import Checkpoint
from smvae_core.files import write_atomically
from smvae_core.inference.backend import (
    TOLERANCE,
    BackendError,
    Outputs,
    TorchBackend,
    difference,
    trial,
    trial_memory,
)
from smvae_core.inference.onnx_runtime import onnx_memory, required, session, to_onnx
from smvae_core.inference.state import Recalled, RecallingFusion, nothing
from smvae_core.model.likelihood import expectation
from smvae_core.model.vae import MultimodalVAE

_POSTERIOR = ("mean", "log_variance", "attention")
_STATE, _NEXT = ("hidden", "present", "elapsed"), ("next_hidden", "next_present")


@dataclass(frozen=True)
class Exported:
    """Description of an exported graph.

    Attributes:
        inputs: name to shape: each modality, and `mask`; B is the batch. With memory `hidden`, `present` and `elapsed`.
        outputs: name to shape: mean, log_variance, attention, and a prediction of each modality. With memory
            `next_hidden` and `next_present`, which are the `hidden` and `present` of the next set.
        subsets: how many subsets were compared with eager, the empty one among them.
        difference: the largest difference from eager.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    subsets: int
    difference: float


class MaskedModel(nn.Module):
    """The model without branches: everything is embedded, then absent modalities are masked out.

    Only for inference: in training, absent rows would enter the batch statistics.
    """

    def __init__(self, model: MultimodalVAE) -> None:
        super().__init__()
        self.model = model.eval()
        self.recalling = RecallingFusion(model) if model.memory is not None else None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return mean (B, L), log variance (B, L), attention (B, M), and each E[x_m | z = mean] (B, *shape).

        A model with memory gives attention (B, M + 1), memory last, and behind it the next state: hidden (B, H) and
        present (B,).

        Args:
            inputs: each modality (B, *shape), in the model's order, then the mask (B, M), bool. The content
                of absent slots has no influence, not even NaN. With memory also hidden (B, H), present (B,), bool, and
                the seconds since the set of that state, (B,).
        """
        names = self.model.names
        batch, mask, state = inputs[: len(names)], inputs[len(names)], inputs[len(names) + 1 :]
        embeddings = [self.model.embeddings[name](x) for name, x in zip(names, batch)]
        # Not a product with the mask: 0 · NaN is NaN.
        embedded = torch.where(mask[:, :, None], torch.stack(embeddings, dim=1), 0.0)
        fuse = self.model.fusion if self.recalling is None else self.recalling
        mean, *others = fuse(embedded, mask, *state)
        decoded = ((modality, self.model.decoders[name](mean)) for name, modality in self.model.modalities.items())
        return (mean, *others, *(expectation(modality, x) for modality, x in decoded))


def export_onnx(loaded: Checkpoint, path: Path) -> Exported:
    """Write the model to `path` if ONNX Runtime agrees with eager to 1e-4 on every subset and on the empty set.

    The metadata of the file hold the package version and, as JSON, the configuration of the model.

    Raises:
        BackendError: a package is missing, the model cannot be exported, the graph does not agree with eager, or the
            file cannot be written.
    """
    onnx = required("onnx")
    model, configuration = loaded.model, loaded.metadata.model
    has_memory = model.memory is not None
    if taken := {"mask", *_POSTERIOR, *(_STATE + _NEXT if has_memory else ())} & set(model.names):
        raise BackendError(f"onnx: the graph needs the name {min(taken)!r}, which is a modality's")
    arrays, masks = trial(configuration)
    inputs = {name: torch.from_numpy(x)[None] for name, x in arrays.items()}
    inputs |= {"mask": torch.from_numpy(masks[:1])}
    if configuration.memory is not None:
        inputs |= {name: torch.from_numpy(x) for name, x in onnx_memory(nothing(configuration.memory), 1).items()}
    outputs = [*_POSTERIOR, *(_NEXT if has_memory else ()), *(f"predicted_{name}" for name in model.names)]
    graph = to_onnx(MaskedModel(model), inputs, outputs)
    proto = onnx.load_from_string(graph)
    for output in proto.graph.output:
        if configuration.memory is not None and output.name == _NEXT[0]:
            # The exporter loses the size of the state, which runtimes ask the graph for.
            output.type.tensor_type.shape.dim[1].dim_value = configuration.memory.size
    proto.doc_string = f"Set Multimodal VAE, written by smvae {smvae_core.__version__}"
    onnx.helper.set_model_props(
        proto, {"smvae": smvae_core.__version__, "configuration": configuration.model_dump_json()}
    )
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    eager = TorchBackend(model, torch.device("cpu"), torch.contiguous_format)
    worst = max(
        difference(_run(content, arrays, masks, loaded, recalled), eager.run(arrays, masks, model.names, recalled))
        for recalled in trial_memory(configuration)
    )
    if not worst <= TOLERANCE:
        raise BackendError(f"{path}: expected the graph to agree with eager to {TOLERANCE:g}, found {worst:.2g}")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise BackendError(f"{path}: cannot be written ({error.strerror})") from None
    return Exported(
        inputs={x.name: _shape(x) for x in proto.graph.input},
        outputs={x.name: _shape(x) for x in proto.graph.output},
        subsets=len(masks),
        difference=worst,
    )


def _run(
    content: bytes, arrays: dict[str, np.ndarray], masks: np.ndarray, loaded: Checkpoint, recalled: Recalled | None
) -> Outputs:
    batch = {name: np.repeat(x[None], len(masks), axis=0) for name, x in arrays.items()}
    for column, name in enumerate(arrays):
        batch[name][~masks[:, column]] = np.nan
    inputs, names, hidden = batch | {"mask": masks}, loaded.model.names, None
    memory = loaded.metadata.model.memory
    if memory is not None:
        inputs |= onnx_memory(recalled or nothing(memory), len(masks))
    mean, log_variance, attention, *others = session(content).run(None, inputs)
    if memory is not None:
        hidden, _, *others = others
    return Outputs(mean, log_variance, attention, dict(zip(names, others)), hidden)


def _shape(value: Any) -> str:
    sizes = [size.dim_param or str(size.dim_value) for size in value.type.tensor_type.shape.dim]
    return "×".join(["B", *sizes[1:]])
