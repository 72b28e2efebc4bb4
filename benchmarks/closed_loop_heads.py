"""The heads of the closed loop: trained alike on logs and on attempts of their own, and judged on held-out logs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from benchmarks import pose_head
from benchmarks.closed_loop_arguments import possible_conditions
from benchmarks.insertion import CONDITIONS, Task, attempts
from benchmarks.insertion_feeds import SENSORS, STEP_S, Feed, LatentFeed, RawFeed, Recorder, RememberingFeed, TruePose
from benchmarks.pose_head import Head
from benchmarks.pose_steps import Steps, joined, latents, outage_mask, raw, read_steps, remembering_latents
from smvae_core.checkpoint import Checkpoint
from smvae_core.data.formats.protocol import Trajectory
from smvae_core.errors import SMVAEError
from smvae_core.model.vae import MultimodalVAE
from smvae_core.subsets import Subset

TRUE, MEMORY, OURS, ZEROS, HELD, PLAIN = (
    "true pose",
    "latent with memory and trust",
    "latent",
    "raw, zeros",
    "raw, held",
    "raw, zeros, never seen in training",
)
WHOLE = "latent with memory and trust, commands in the sets"
"""As a node's latents are: their sets hold the command that is carried out. Only read over topics."""
_FILES = {MEMORY: "memory", OURS: "latent", ZEROS: "zeros", HELD: "held", PLAIN: "plain", WHOLE: "whole"}
_OWN_SEED = 100_000
"""The attempts to train on begin with this seed, far from those that are judged."""
_KNOWN = 40
"""Steps of a trajectory in which everything is there, before something is lost."""
_SINCE = ((_KNOWN, _KNOWN + 20), (_KNOWN + 20, _KNOWN + 60), (_KNOWN + 60, _KNOWN + 200))
_LOST: tuple[Subset, ...] = ((), ("rgb",), ("rgb", "depth"))
_SUBSETS: tuple[Subset, ...] = (("rgb", "depth", "force"), ("depth", "force"), ("rgb", "force"), ("force",))


def feeds(loaded: Checkpoint) -> list[str]:
    """Return the names of all that can be fed to the policy, with this checkpoint."""
    return [TRUE, *([MEMORY] if loaded.model.memory is not None else []), OURS, ZEROS, HELD, PLAIN]


def feed(name: str, loaded: Checkpoint, folder: Path) -> Feed:
    """Return a feed, with its head from a folder."""
    if name == TRUE:
        return TruePose()
    head = pose_head.load(folder / _FILES[name])
    if name == MEMORY:
        return RememberingFeed(loaded, head)
    if name == OURS:
        return LatentFeed(loaded.model, head)
    return RawFeed(loaded.metadata.model.modalities, head, name == HELD)


def train(
    loaded: Checkpoint, trajectories: Sequence[Trajectory], most: int, own: int, task: Task, folder: Path
) -> list[str]:
    """Write the heads to a folder; return the table of their precision on held-out trajectories.

    Args:
        loaded: the checkpoint; trajectories that it held out only judge.
        trajectories: logs of the fixed scene.
        most: read at most so many to train.
        own: attempts with all sensors by the true pose, and as many under each outage by a first head of the latent
            that the logs alone have trained: all heads then learn from the logs and from these attempts.
        task: of the attempts.
        folder: an existing one.
    """
    model = loaded.model.eval()
    steps, judged = _of_logs(loaded, trajectories, most)
    known, names = len(steps), [name for name in feeds(loaded) if name != TRUE]
    if own:
        _train_one(_first(loaded), model, steps, folder)
        steps = joined([steps, *_own(loaded, own, task, folder)])
    for name in names:
        _train_one(name, model, steps, folder)
    return [
        f"Heads with one hidden layer, each trained on the same {len(steps)} steps: {known} of logs, the rest of {own} "
        f"attempts each by the true pose with all sensors, and by the latent after a first training with all sensors "
        f"and under each outage below; all once as they are and once with the same further outages in them, but for "
        f"'{PLAIN}', which only saw complete sets. They give the pose's σ too. Judged on {len(judged)} steps of "
        f"{len(judged.lengths)} trajectories that neither model nor head saw: "
        f"root mean squares where the peg is within {1e3 * pose_head.NEAR_M:.0f} mm of the hole's axis; z² is the "
        "squared error across divided by the σ² that was given, 1 if it is honest.",
        "",
        "| pose read from | across the hole, mm | height, mm | yaw, mrad | contact told rightly | z² |",
        "|---|---|---|---|---|---|",
        *_precisions(model, judged, names, folder),
    ]


def train_whole(
    loaded: Checkpoint, trajectories: Sequence[Trajectory], most: int, own: int, task: Task, folder: Path
) -> list[str]:
    """Write the head of whole sets to a folder that has the head `MEMORY`; return the rows of its precision.

    The arguments are those of `train`, and so are the logs and attempts that it learns from.
    """
    model = loaded.model.eval()
    steps, judged = _of_logs(loaded, trajectories, most)
    if own:
        steps = joined([steps, *_own(loaded, own, task, folder)])
    _train_one(WHOLE, model, steps, folder)
    return _precisions(model, judged, [WHOLE], folder)


def whole(folder: Path) -> Head:
    """Return the head of whole sets from a folder."""
    return pose_head.load(folder / _FILES[WHOLE])


def _of_logs(loaded: Checkpoint, trajectories: Sequence[Trajectory], most: int) -> tuple[Steps, Steps]:
    """Return the steps of logs to train on, and of logs that the checkpoint held out."""
    held = set(loaded.metadata.training.held_out if loaded.metadata.training else ())
    unseen = [one for one in trajectories if one.name in held][: max(1, most // 4)]
    if not unseen:
        raise SMVAEError("--logs: expected the logs of the checkpoint's training, found none that it held out")
    model = loaded.model.eval()
    return read_steps([t for t in trajectories if t.name not in held][:most], model), read_steps(unseen, model)


def _first(loaded: Checkpoint) -> str:
    """Return the feed that makes attempts to train on."""
    return MEMORY if MEMORY in feeds(loaded) else OURS


def _own(loaded: Checkpoint, own: int, task: Task, folder: Path) -> list[Steps]:
    """Return the steps of attempts by the true pose, and by the latent: with all sensors, and as each outage goes on.

    A policy that sees nothing goes where it believes the hole to be. No log shows how far off such a reading is, since
    the commands in logs go by the true pose.
    """
    outages = [condition for condition in possible_conditions(task) if condition.fault == "unplugged"]
    made, model = [], loaded.model.eval()
    for number, (name, condition) in enumerate([(TRUE, CONDITIONS[0]), *((_first(loaded), one) for one in outages)]):
        recorder = Recorder(feed(name, loaded, folder), model)
        seeds = range(_OWN_SEED + number * own, _OWN_SEED + (number + 1) * own)
        attempts(recorder, condition, model.configuration.modalities, seeds, task)
        made.append(recorder.steps())
    return made


def _train_one(name: str, model: MultimodalVAE, steps: Steps, folder: Path) -> None:
    seen, masks = _seen(name, model), [steps.arrived]
    if name != PLAIN:
        masks.append(outage_mask(steps, model.names, SENSORS, np.random.default_rng(0)))
    used = np.asarray(steps.arrived.all(axis=1) | (name != PLAIN))
    inputs = np.concatenate([seen(steps, mask)[used] for mask in masks])
    pose_head.save(folder / _FILES[name], pose_head.fit(inputs, np.concatenate([steps.truth[used]] * len(masks))))


def _seen(name: str, model: MultimodalVAE) -> Callable[[Steps, np.ndarray], np.ndarray]:
    """Return what gives the inputs of a head, for steps and what arrived in them, (N, M)."""
    if name in (MEMORY, WHOLE):
        decided = SENSORS if name == MEMORY else tuple(model.names)
        return lambda steps, mask: remembering_latents(model, steps, mask, decided)
    if name == OURS:
        known = np.array([modality in SENSORS for modality in model.names])
        return lambda steps, mask: latents(model, steps, mask & known)
    return lambda steps, mask: raw(steps, SENSORS, mask, name == HELD)


def _precisions(model: MultimodalVAE, judged: Steps, names: Collection[str], folder: Path) -> list[str]:
    rows = []
    for name in names:
        head, seen = pose_head.load(folder / _FILES[name]), _seen(name, model)
        if name in (MEMORY, WHOLE):
            rows += _remembering(model, judged, head, seen)
            continue
        for subset in _SUBSETS:
            mask = _with(model, judged, subset)
            found = pose_head.precision(head.read(seen(judged, mask)), judged.truth)
            rows.append(_row(f"{name}: {' + '.join(subset)}", found))
            if name == HELD:
                break  # what is held of a whole trajectory's beginning says nothing
    return rows


def _remembering(
    model: MultimodalVAE, judged: Steps, head: Head, seen: Callable[[Steps, np.ndarray], np.ndarray]
) -> list[str]:
    rows = []
    for lost in _LOST:
        mask = _with(model, judged, [name for name in model.names if name not in lost], after=_KNOWN)
        read = head.read(seen(judged, mask))
        for begin, end in _SINCE if lost else ((_KNOWN, None),):
            rows_of = np.concatenate([np.arange(len(judged))[one] for one in _spans(judged, begin, end)])
            since = f", {' and '.join(lost)} lost for {_seconds(begin, end)}" if lost else ""
            rows.append(_row(f"latent with memory{since}", pose_head.precision(read[rows_of], judged.truth[rows_of])))
    return rows


def _with(model: MultimodalVAE, steps: Steps, subset: Collection[str], after: int = 0) -> np.ndarray:
    """Return a mask (N, M) of sets that have a subset, and everything in the first `after` steps of a trajectory."""
    mask = np.array([[name in subset for name in model.names]] * len(steps))
    for span in _spans(steps, 0, after):
        mask[span] = True
    return mask


def _spans(steps: Steps, begin: int, end: int | None) -> list[slice]:
    """Return the rows of steps `begin` to `end` of each trajectory."""
    pairs = zip(steps.starts, steps.lengths)
    return [slice(s + min(begin, n), s + n if end is None else s + min(end, n)) for s, n in pairs]


def _seconds(begin: int, end: int | None) -> str:
    low = (begin - _KNOWN) * STEP_S
    return f"more than {low:g} s" if end is None else f"{low:g} to {(end - _KNOWN) * STEP_S:g} s"


def _row(name: str, found: pose_head.Precision) -> str:
    cells = f"{found.across_mm:.1f} | {found.height_mm:.1f} | {found.yaw_mrad:.0f} | {100 * found.contact:.0f} %"
    return f"| {name} | {cells} | {found.spread:.1f} |"
