"""The parts of `benchmarks.gpu` that run trained models."""

import copy
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from benchmarks.gpu import ROOT, Verdict, environment
from smvae_core.capture import free_gpu_memory
from smvae_core.checkpoint import Checkpoint, Metadata, default_checkpoint, load
from smvae_core.device import DeviceLostError, EngineError, first_line, torch_device
from smvae_core.inference.backend import TF32_TOLERANCE, TOLERANCE, BackendError, TorchBackend, difference, trial
from smvae_core.inference.building import Precision, candidates
from smvae_core.inference.engine import Engine
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE


def device(name: str, quick: bool) -> list[Verdict]:
    """Say what the device is, and whether a kernel runs on it."""
    told = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    try:
        found = torch_device(name)
    except EngineError as error:
        return [Verdict("a kernel runs on the device", str(error), False)]
    if found.type == "cuda":
        properties = torch.cuda.get_device_properties(found)
        told += (
            f"; {properties.name}, sm_{properties.major}{properties.minor}, {properties.total_memory / 2**30:.0f} GiB; "
            f"kernels for {', '.join(torch.cuda.get_arch_list())}"
        )
    return [Verdict("a kernel runs on the device", told, True)]


def tests(name: str, quick: bool) -> list[Verdict]:
    """Run the tests that need a GPU, each file in a process of its own."""
    verdicts = []
    for path in ("test_cuda_graph.py", "test_engine.py"):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"test/core/inference/{path}",
            "-k",
            "gpu or graphs",
        ]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        if "No module named pytest" in done.stderr:
            verdicts.append(Verdict(f"{path} passes", "not tried: pytest is not installed", None))
        else:
            verdicts.append(Verdict(f"{path} passes", last, done.returncode == 0))
    return verdicts


def agreement(name: str, quick: bool) -> list[Verdict]:
    """Compare back ends with eager without TF32, set by set, a batch with single sets, and 100 runs of one set."""
    verdicts, found = [], torch_device(name)
    precisions: tuple[Precision, ...] = ("single", "tf32")
    for size in ("tiny",) if quick else ("compact", "paper"):
        loaded = _loaded(size)
        arrays, masks = trial(loaded.metadata.model)
        names = list(arrays)
        for precision in precisions:
            tolerance = TF32_TOLERANCE if precision == "tf32" else TOLERANCE
            for backend in candidates(found, precision):
                doubt = f"{size}, {precision}: {backend} agrees with eager to {tolerance:g} on every set"
                try:
                    one = Engine(loaded, name, backend, precision)
                except BackendError as error:
                    verdicts.append(Verdict(doubt, str(error), False))
                    continue
                eager = TorchBackend(copy.deepcopy(loaded.model), found, torch.contiguous_format)
                running = one._running
                assert running is not None
                worst = max(
                    difference(running.run(arrays, mask[None], names), eager.run(arrays, mask[None], names))
                    for mask in masks
                )
                verdicts.append(Verdict(doubt, f"{worst:.1e}", worst <= tolerance))
                outputs = {one.infer(arrays, names).mean.tobytes() for _ in range(5 if quick else 100)}
                verdicts.append(
                    Verdict(
                        f"{size}, {precision}: {backend} gives the same bytes",
                        f"{len(outputs)} kinds",
                        len(outputs) == 1,
                    )
                )
        eager = TorchBackend(copy.deepcopy(loaded.model), found, torch.contiguous_format)
        three = eager.run(arrays, masks[:3], names)
        single = [eager.run(arrays, mask[None], names) for mask in masks[:3]]
        worst = max(float(np.abs(three.mean[i] - one.mean[0]).max()) for i, one in enumerate(single))
        verdicts.append(
            Verdict(f"{size}: eager, three sets at once against one by one", f"{worst:.1e}", worst <= TOLERANCE)
        )
    return verdicts


def memory(name: str, quick: bool) -> list[Verdict]:
    """Release engines and use others; watch what stays allocated."""
    found, loaded, verdicts = torch_device(name), _loaded("tiny" if quick else "compact"), []
    on_gpu = found.type == "cuda"
    arrays, _ = trial(loaded.metadata.model)
    first, second = (Engine(loaded, name, precision="half") for _ in range(2))
    first.warm_up()
    second.warm_up()
    expected = second.infer(arrays, list(arrays)).mean
    first.release()
    hold = torch.full((16 if on_gpu else 1, 1024, 1024), float("nan"), device=found)
    same = all(np.array_equal(second.infer(arrays, list(arrays)).mean, expected) for _ in range(10 if quick else 1000))
    verdicts.append(
        Verdict(
            "an engine runs on unchanged after another is released",
            f"{second.backend}",
            same and bool(hold.isnan().all()),
        )
    )
    del hold
    second.release()
    one, left = Engine(loaded, name), []
    for _ in range(2 if quick else 10):
        one.warm_up()
        one.release()
        left.append(torch.cuda.memory_allocated(found) if on_gpu else 0)
    steady = max(left[1:]) <= left[0]
    verdicts.append(
        Verdict(
            "ten releases leave no more memory than one", f"{left[0] / 2**20:.1f} to {left[-1] / 2**20:.1f} MiB", steady
        )
    )
    return verdicts


def failures(name: str, quick: bool) -> list[Verdict]:
    """Fill the GPU, then break it: each is one sentence."""
    found = torch_device(name)
    if found.type != "cuda":
        return [Verdict("out of memory and a lost GPU are one sentence each", "not tried: no GPU", None)]
    verdicts = []
    torch.cuda.set_per_process_memory_fraction(1e-5, found)
    try:
        Engine(_loaded("paper"), name)
    except EngineError as error:
        verdicts.append(Verdict("a GPU out of memory is one sentence", str(error), "\n" not in str(error)))
    else:
        verdicts.append(
            Verdict("a GPU out of memory is one sentence", "the model fitted into 1e-5 of the memory", None)
        )
    torch.cuda.set_per_process_memory_fraction(1.0, found)
    free_gpu_memory()
    one = Engine(_loaded("compact"), name)
    one.warm_up()
    arrays, _ = trial(one.metadata.model)
    try:
        torch.zeros(4, device=found)[torch.full((4,), 9, device=found)].sum().item()
    except RuntimeError as error:
        verdicts.append(Verdict("an index out of range is an assertion on the device", first_line(error), True))
    try:
        one.infer(arrays, list(arrays))
    except DeviceLostError as error:
        verdicts.append(Verdict("a lost GPU is told as such", str(error), True))
    except Exception as error:
        verdicts.append(Verdict("a lost GPU is told as such", f"{type(error).__name__}: {first_line(error)}", False))
    one.release()
    verdicts.append(Verdict("an engine on a lost GPU can be released", "released", True))
    return verdicts


def engine(name: str, quick: bool) -> list[Verdict]:
    """Time one set, everything predicted, by each back end; count its kernels."""
    verdicts, found = [], torch_device(name)
    for size in ("tiny",) if quick else ("compact", "paper"):
        loaded = _loaded(size)
        running: dict[str, Engine] = {"eager": Engine(loaded, name, "eager")}
        for backend in candidates(found, "half"):
            try:
                running[backend] = Engine(loaded, name, backend, "half")
            except BackendError as error:
                verdicts.append(Verdict(f"{size}: {backend} runs", str(error), False))
        arrays, _ = trial(loaded.metadata.model)
        taken: dict[str, list[float]] = {backend: [] for backend in running}
        for one in running.values():
            one.warm_up()
        for _ in range(3 if quick else 200):
            for title, one in running.items():
                began = time.perf_counter()
                one.infer(arrays, list(arrays))
                taken[title].append(time.perf_counter() - began)
        seconds = {backend: statistics.median(values) for backend, values in taken.items()}
        for title, value in seconds.items():
            goal = seconds["eager"] / value >= 5.0 if title == "cuda_graph" else None
            told = f"{1e3 * value:.2f} ms, {seconds['eager'] / value:.1f} times eager"
            verdicts.append(
                Verdict(f"{size}: {title}" + (" is 5 times as fast as eager" if goal is not None else ""), told, goal)
            )
        if found.type == "cuda":
            verdicts += [_profiled(size, backend, one, arrays) for backend, one in running.items()]
    return verdicts


def _profiled(size: str, backend: str, one: Engine, arrays: dict[str, np.ndarray]) -> Verdict:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        for _ in range(20):
            one.infer(arrays, list(arrays))
    kernels = [event for event in profiler.events() if event.device_type.name == "CUDA"]
    busy = sum(event.device_time for event in kernels) / 20
    return Verdict(f"{size}: {backend}, kernels of a set", f"{len(kernels) / 20:.0f}, busy {busy / 1e3:.2f} ms", None)


def _loaded(size: str) -> Checkpoint:
    """Return the shipped checkpoint, of compact networks, or untrained networks of another size."""
    if size == "compact":
        return load(default_checkpoint())
    torch.manual_seed(0)
    configuration = ModelConfiguration(size="paper" if size == "paper" else "tiny")
    return Checkpoint(
        MultimodalVAE(configuration).eval(), {}, Metadata(format=1, package_version="", model=configuration)
    )
