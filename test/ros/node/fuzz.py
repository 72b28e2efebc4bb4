"""Random and mutated messages, at random times, through synchroniser and conversions.

    python -m test.ros.node.fuzz --messages 100000 --seed 0

A round is 500 messages to one synchroniser of random settings. A failure is raised as an AssertionError that names the
round; `--first` starts with that round.
"""

import argparse
import resource
import struct
from array import array
from collections import Counter
from collections.abc import Iterator
from math import inf, nan
from random import Random
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.preprocessing import Vector
from smvae_ros.conversions.arrays import fill_image, fill_twist, fill_wrench, set_arrays, stamp_ns
from smvae_ros.conversions.bindings import JOINTS, Binding, bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.synchronizer.set_synchronizer import SampleSet, SetSynchronizer, Stream

ROUND = 500
MS = 1_000_000
START = 1_700_000_000_000 * MS

_JOINTS = Modality(name="joints", source="", preprocessing=Vector(size=7), network="vector", likelihood="normal")
_TACTILE = Modality(name="tactile", source="", preprocessing=Vector(size=11), network="vector", likelihood="normal")
BINDINGS = bind((*vision_touch_modalities(), _JOINTS, _TACTILE), {"joints": JOINTS})

# Values that a field of the wrong type, an uninitialised driver or an attacker would bring.
_HOSTILE: list[Any] = [
    -1, 0, 1, 2, 3, 7, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63, 2**64, -(2**63), 10**30,
    0.5, -0.0, 1e-320, 3.5e38, 1e300, nan, inf, -inf, 1j, True, None, "", "nan", "rgb8", "32FC1", "x" * 10_000,
    b"", b"\x00" * 9, [], [[]], [1.0], [nan] * 7, [[1.0]] * 11, {}, object(), array("B"), array("d", [1.0] * 7),
    np.zeros(0), np.zeros((2, 3)), np.float32(nan), np.int64(3), memoryview(b"1234"), range(11),
]  # fmt: skip
_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "32FC1", "16UC1", "yuv422", "RGB8", "8UC3", "")
_FORMATS = (
    "jpeg", "png", "", "rgb8; jpeg compressed bgr8", "bgr8; png compressed ", "16UC1; compressedDepth png",
    "32FC1; compressedDepth png", "16UC1; compressedDepth rvl", "bayer_rggb8; png compressed ", ";;", "32FC1",
)  # fmt: skip


def fuzz(messages: int, seed: int, first: int = 0) -> Counter[str]:
    """Send `messages` messages, and return how many were converted, rejected and dropped, by kind.

    Raises:
        AssertionError: an error other than ConversionError, or a property that does not hold; it names the round.
    """
    found: Counter[str] = Counter()
    for number in range(first, first + -(-messages // ROUND)):
        try:
            _round(Random(f"{seed} {number}"), found)
        except Exception as error:
            raise AssertionError(f"--seed {seed} --first {number}: {type(error).__name__}: {error}") from error
    return found


def _round(random: Random, found: Counter[str]) -> None:
    synchronizer = _synchronizer(random)
    now_ns, last = START, (-1, 0)
    for _ in range(ROUND):
        now_ns += _step(random)
        binding = random.choice(BINDINGS)
        message = _message(random, binding, now_ns)
        sets: list[SampleSet] = []
        try:
            sets += synchronizer.add(binding.modality.name, stamp_ns(message), message, now_ns)
        except ConversionError:
            found["without a stamp"] += 1
        if random.random() < 0.3 and (due_ns := synchronizer.next_deadline()) is not None:
            now_ns = max(now_ns, min(due_ns, now_ns + 50 * MS))
            sets += synchronizer.poll(now_ns)
        if random.random() < 0.002:
            synchronizer.reset()
        if random.random() < 0.01:
            sets += synchronizer.change([_stream(random, binding.modality.name, 1)], random.randrange(200 * MS), now_ns)
        for sample_set in sets:
            assert last < (sample_set.epoch, sample_set.stamp_ns), "set stamps increase"
            last = sample_set.epoch, sample_set.stamp_ns
            _convert(sample_set, found)
        _balance(synchronizer, found)
    found.update(synchronizer.sets)
    for counts in synchronizer.counts.values():
        found.update(counts.dropped)


def _convert(sample_set: SampleSet, found: Counter[str]) -> None:
    arrays, rejected = set_arrays(BINDINGS, sample_set)
    assert set(arrays) | set(rejected) == set(sample_set.samples)
    for binding in BINDINGS:
        name = binding.modality.name
        if name in arrays:
            assert arrays[name].shape == binding.modality.shape and arrays[name].dtype == np.float32
            assert np.isfinite(arrays[name]).all(), f"{name} is finite"
            found["converted"] += 1
    for reason in rejected.values():
        assert "\n" not in reason and len(reason) < 500, f"one sentence, found {len(reason)} characters"
        found["rejected"] += 1


def _balance(synchronizer: SetSynchronizer, found: Counter[str]) -> None:
    for name, counts in synchronizer.counts.items():
        assert counts.received == counts.used + counts.dropped.total() + synchronizer.held(name), f"{name} adds up"
        assert synchronizer.held(name) <= 80, "memory is bounded"
    found["messages"] += 1


def _synchronizer(random: Random) -> SetSynchronizer:
    names = [binding.modality.name for binding in BINDINGS]
    reference = random.choice([None, "rgb", "rgb", "action"])
    return SetSynchronizer(
        [_stream(random, name, random.choice([1, 4, 32]) if name == "force" else 1) for name in names],
        reference=reference,
        max_wait_ns=random.choice([0, 10, 50, 200]) * MS,
        tick_ns=random.choice([1, 20, 50]) * MS,
        future_ns=random.choice([0, 100]) * MS,
    )


def _stream(random: Random, name: str, window: int) -> Stream:
    tolerance_ns = random.choice([0, 5, 25, 100]) * MS
    return Stream(
        name,
        tolerance_ns=tolerance_ns,
        timeout_ns=random.choice([1, 50, 500]) * MS,
        depth=random.choice([max(window, 32), 64]),
        window=window,
        least=random.randint(1, window),
        hold_ns=random.choice([0, tolerance_ns + 50 * MS]),
        offset_ns=random.choice([0, 0, 3 * MS, -3 * MS]),
        period_ns=random.choice([0, 1, 40]) * MS,
        ordered=random.random() < 0.5,
        enabled=random.random() < 0.9,
    )


def _step(random: Random) -> int:
    """Return the time to the next message; now and then the clock jumps."""
    if random.random() < 0.005:
        return random.choice([-1, 1]) * random.choice([MS, 40 * MS, 700 * MS, 3_600_000 * MS, 10**18])
    return random.choice([0, 1, MS // 4, MS, 5 * MS, 33 * MS])


def _message(random: Random, binding: Binding, now_ns: int) -> Any:
    """Return a message of the binding's type, correct or with up to four faults."""
    message = _good(random, binding)
    sent_ns = now_ns - random.choice([0, 0, 0, MS, 20 * MS, 300 * MS, -MS, -(10**10)])
    # On a coarse grid, so that stamps repeat.
    sent_ns -= sent_ns % random.choice([1, 20 * MS])
    sec, nanosec = divmod(max(0, sent_ns) if random.random() < 0.98 else 0, 1_000_000_000)
    message.header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="frame")
    for _ in range(random.choice([0, 0, 0, 1, 1, 2, 4])):
        _mutate(random, message)
    return message


def _good(random: Random, binding: Binding) -> Any:
    kind = binding.modality.preprocessing.kind
    message = SimpleNamespace()
    if kind in ("rgb", "depth"):
        size = random.randint(1, 40), random.randint(1, 40)
        noise = np.random.default_rng(random.randrange(2**32))
        colour = noise.integers(0, 256, (*size, 3), np.uint8)
        image = colour if kind == "rgb" else noise.uniform(-1, 4, size).astype(np.float32)
        if random.random() < 0.4:
            _compress(random, message, image)
        else:
            fill_image(message, image)
    elif binding.type == JOINTS:
        message.position = array("d", [random.gauss(0, 1) for _ in range(7)])
        message.name = random.choice([[], list("abcdefg"), list("gfedcba")])
    elif binding.modality.name == "tactile":
        message.values = array("d", [random.gauss(0, 1) for _ in range(11)])
    else:
        for group in ("force", "torque", "linear", "angular"):
            setattr(message, group, SimpleNamespace(x=0.0, y=0.0, z=0.0))
        message.wrench = message.twist = message
        fill = fill_wrench if kind == "force" else fill_twist
        fill(message, np.array([random.gauss(0, 10) for _ in range(6)]))
    return message


def _compress(random: Random, message: Any, image: np.ndarray) -> None:
    """Write the image into the message as a CompressedImage."""
    message.format = random.choice(_FORMATS)
    depth = image.ndim == 2
    pixels = np.abs(image * 1000).astype(np.uint16) if depth else image
    header = struct.pack("<iff", 0, 10100.0, -1009.0) if depth and random.random() < 0.7 else b""
    kind = ".png" if depth else random.choice([".jpg", ".png"])
    message.data = array("B", header + cv2.imencode(kind, pixels)[1].tobytes())


def _mutate(random: Random, message: Any) -> None:
    fields = list(_fields(message))
    if not fields:
        return
    owner, field = random.choice(fields)
    value = getattr(owner, field)
    choice = random.random()
    if choice < 0.1:
        delattr(owner, field)
    elif field == "encoding" and choice < 0.8:
        owner.encoding = random.choice(_ENCODINGS)
    elif field == "format" and choice < 0.8:
        owner.format = random.choice(_FORMATS)
    elif isinstance(value, array) and choice < 0.7:
        setattr(owner, field, _other_data(random, value))
    elif isinstance(value, int) and choice < 0.6:
        setattr(owner, field, value + random.choice([-1000, -1, 1, 3, 100, value, -2 * value]))
    else:
        setattr(owner, field, random.choice(_HOSTILE))


def _fields(message: Any) -> Iterator[tuple[Any, str]]:
    """Yield every field of the message and of the messages in it, with its owner."""
    for field, value in vars(message).items():
        yield message, field
        if isinstance(value, SimpleNamespace) and value is not message:
            yield from _fields(value)


def _other_data(random: Random, data: array) -> Any:
    some = data[: random.randrange(len(data) + 1)]
    noise = array(data.typecode, random.randbytes(data.itemsize * len(data)))
    bent = data[:]
    if bent:
        bent[random.randrange(min(len(bent), 200))] = noise[0]
    return random.choice(
        [some, data + some, noise, bent, bent, some.tobytes(), data.tolist(), np.array(data), memoryview(data)]
    )


def main() -> None:
    """Fuzz, and print how many messages were converted, rejected and dropped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="round to begin with")
    arguments = parser.parse_args()
    for kind, number in fuzz(arguments.messages, arguments.seed, arguments.first).most_common():
        print(f"{number:9,} {kind}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:9,} MB at most")


if __name__ == "__main__":
    main()
