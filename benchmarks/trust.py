"""Does a node notice a sensor that lies, and blame the right one? Faults of all modalities, in logs of a test part.

python -m benchmarks.trust --checkpoint runs/first --data logs            100 episodes of each fault
python -m benchmarks.trust --checkpoint runs/first --data logs --quick    12 episodes of each
python -m benchmarks.trust --checkpoint runs/first --fresh other_logs     in logs that the training never had

An episode is a fault of one modality for 0.5 to 5 s at a random time of a healthy log that neither the model, nor
trust, nor its calibration has seen. A frozen camera while nothing moves cannot be told from a healthy one, nor can a
zeroed force while nothing touches. So an episode of other, old or zero samples begins at the first one that differs
from the true one by more than a tenth of the spread of the modality. An episode in which none does is drawn anew.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.report import RESULTS, Goal, report
from benchmarks.sensor_faults import FAULTS, Fault
from benchmarks.trust_drop import Errors, cost_of_trust, errors
from benchmarks.trust_episodes import Bench, Found
from smvae_core.checkpoint import Checkpoint, load
from smvae_core.data.samples import Samples
from smvae_core.data.splits import split_by_trajectory
from smvae_core.evaluation.held_out import read_logs_to_judge
from smvae_core.inference.watch import Watch
from smvae_core.training.run import best_of

_DROPPED = 10
"""Episodes of each fault in which modalities are dropped, set by set; all are measured side by side before."""
_MOST = 1.3


def main() -> None:
    """Measure, print and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="with trust, as smvae trust makes it")
    logs = parser.add_mutually_exclusive_group(required=True)
    logs.add_argument("--data", type=Path, help="the logs that it was trained on; the test part is used")
    logs.add_argument("--fresh", type=Path, help="logs that the training never had; all are used")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="12 episodes of each fault")
    parser.add_argument("--most", type=int, help="so many logs at most")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    console = Console(stderr=True)
    loaded = load(best_of(options.checkpoint))
    if loaded.trust is None or loaded.metadata.trust is None:
        parser.error(f"{options.checkpoint}: expected a checkpoint with trust, found one without; smvae trust adds it")
    samples = _test_logs(loaded, options.data, options.fresh, console)
    if options.most is not None:
        samples = samples.select(
            np.flatnonzero(np.isin(samples.trajectory, np.unique(samples.trajectory)[: options.most]))
        )
    with console.status("healthy logs"):
        bench = Bench(loaded, samples)
    episodes = 12 if options.quick else options.episodes
    watch = Watch(loaded.model, loaded.trust, loaded.metadata.trust)
    table: dict[Fault, tuple[Found, Errors | None]] = {}
    for number, fault in enumerate(fault for fault in FAULTS if fault.modality in loaded.model.names):
        drawn = bench.episodes(fault, episodes, np.random.default_rng(number))
        dropped = drawn[:: max(1, len(drawn) // _DROPPED)]
        table[fault] = bench.measure(fault, drawn), errors(bench, watch, fault, dropped) if dropped else None
        console.print(_row(fault, *table[fault]).measured, fault.name)
    first = {name: x[0].numpy() for name, x in bench.logs[0].samples.batch(np.array([0]))[0].items()}
    report(
        "Trust",
        f"python -m benchmarks.trust --checkpoint CHECKPOINT {'--data' if options.data else '--fresh'} LOGS "
        f"--episodes {episodes}",
        _how(loaded, bench, len(table), episodes, fresh=options.fresh is not None),
        [*(_row(fault, *found) for fault, found in table.items()), *_goals(bench, table),
         _cost(*cost_of_trust(loaded, first))],
        options.results,
    )  # fmt: skip


def _test_logs(loaded: Checkpoint, data: Path | None, fresh: Path | None, console: Console) -> Samples:
    if fresh is not None:
        return read_logs_to_judge(loaded.metadata, fresh, False, None, False, console)[0]
    assert data is not None
    held_out, _ = read_logs_to_judge(loaded.metadata, data, True, None, False, console)
    return split_by_trajectory(held_out, 0.5, seed=0)[1] if len(held_out.held) > 1 else held_out


def _how(loaded: Checkpoint, bench: Bench, faults: int, episodes: int, fresh: bool) -> str:
    record = loaded.metadata.trust
    assert record is not None
    where = "logs that the training never had" if fresh else "test logs that neither the model nor its trust has seen"
    return (
        f"{faults} faults, {episodes} episodes of 0.5 to 5 s each, in {len(bench.logs)} {where}. Trust was calibrated "
        f"on {len(record.calibrated_on)} held-out logs. The training of trust never drew a fault of the kinds that are "
        "marked *unseen*. AUROC: log odds summed over the first half second of a fault, against the same half second "
        "without it. Noticed: a modality reaches its threshold before the fault ends. Right: it is the faulty one. "
        "After: median time to it. Cost: the largest error of another modality over the whole fault, as a part of its "
        f"error with the faulty one unplugged: believed → dropped, in {_DROPPED} episodes. Old, foreign and zero "
        "samples count from the first one that differs from the true one by a tenth of the modality's spread: until "
        "then the sensor is not wrong."
    )


def _row(fault: Fault, found: Found, costs: Errors | None) -> Goal:
    name = f"{fault.name}{' *unseen*' if fault.unseen else ''}"
    if not found.soon:
        return Goal(name, "never differs from the truth", "AUROC ≥ 0.85", False)
    after = f", after {np.median(found.after):.2f} s" if found.after else ""
    right = f", right {np.mean(found.blamed):.0%}" if found.blamed else ""
    cost = ""
    if costs is not None:
        dropped, worst = max((costs.dropped[other] / most, other) for other, most in costs.unplugged.items())
        cost = f", cost {costs.believed[worst] / costs.unplugged[worst]:.2f} → {dropped:.2f} ({worst})"
    measured = f"AUROC {found.auroc:.3f}, noticed {np.mean(found.noticed):.0%}{right}{after}{cost}"
    return Goal(name, measured, "AUROC ≥ 0.85", found.auroc >= 0.85)


def _goals(bench: Bench, table: dict[Fault, tuple[Found, Errors | None]]) -> list[Goal]:
    counted = sorted((found for found, _ in table.values() if found.soon), key=lambda found: -found.auroc)
    best = counted[:20]
    good, fair = (sum(found.auroc >= least for found in counted) for least in (0.95, 0.85))
    noticed = _share([seen for found in best for seen in found.noticed])
    right = _share([right for found in counted for right in found.blamed])
    alarms = bench.false_alarms()
    return [
        Goal("faults with AUROC of at least 0.95", f"{good} of {len(table)}", "≥ 20", good >= 20),
        Goal("faults with AUROC of at least 0.85", f"{fair} of {len(table)}", "all", fair == len(table)),
        Goal("the 20 best faults noticed", f"{noticed:.0%}", "≥ 90 %", noticed >= 0.9),
        Goal("all faults noticed", f"{_share([s for f in counted for s in f.noticed]):.0%}", "–", True),
        Goal("the right modality blamed, of all that were noticed", f"{right:.0%}", "≥ 95 %", right >= 0.95),
        Goal(f"healthy logs with an alarm, {60 * bench.hours:.0f} minutes", str(alarms), "0", not alarms),
        *_dropped(table),
    ]


def _dropped(table: dict[Fault, tuple[Found, Errors | None]]) -> list[Goal]:
    """Return a row for each faulty modality: the errors of the others over all its faults."""
    goals = []
    for faulty in dict.fromkeys(fault.modality for fault in table):
        every = [costs for fault, (_, costs) in table.items() if fault.modality == faulty and costs is not None]
        others = every[0].unplugged if every else {}
        ways = (
            ("is believed", "believed", "unplugged"),
            ("is dropped, from its first sample on", "dropped", "unplugged"),
            ("is dropped, once noticed", "dropped_since", "unplugged_since"),
        )
        for words, above, below in ways:
            ratios = {
                other: sum(getattr(costs, above)[other] for costs in every)
                / max(1e-9, sum(getattr(costs, below)[other] for costs in every))
                for other in others
            }
            worst = max(ratios.values(), default=0.0)
            told = ", ".join(f"{other} {ratio:.2f}" for other, ratio in ratios.items())
            counts = above == "dropped_since"
            what = f"{faulty} lies and {words}: errors of others, as parts of those with {faulty} unplugged"
            goals.append(Goal(what, told, f"≤ {_MOST}" if counts else "–", not counts or worst <= _MOST))
    return goals


def _cost(without: float, trusting: float) -> Goal:
    told = f"{1000 * without:.1f} → {1000 * trusting:.1f} ms ({trusting / without:.2f} times)"
    return Goal("one set without trust → with it, everything predicted, eager", told, "–", True)


def _share(values: list[bool]) -> float:
    return float(np.mean(values)) if values else 0.0


if __name__ == "__main__":
    main()
