"""`smvae reproduce`, as a process, on small made files of the true formats."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smvae_core.checkpoint import load
from smvae_core.cli.commands import app
from smvae_core.evaluation.outages import Outages
from smvae_core.inference.engine import Engine
from smvae_core.reproduce import outage_tables
from smvae_core.reproduce.experiments import EXPERIMENTS, ReproductionError
from smvae_core.reproduce.paired import POINTS, differences, read_points, write_points
from smvae_core.reproduce.results import TABLE_1, SystemResult
from smvae_core.reproduce.rows import PAPER, ROWS
from smvae_core.systems.registry import SYSTEMS
from smvae_core.systems.smvae import PAPER as PAPERS_SETTINGS
from smvae_core.training.loop import TrainingError
from smvae_core.training.run import Run, find_runs, read_metrics

from ...programs import Program, run
from ..conftest import write_log
from ..made_data import write_faces, write_idx, write_pictures
from ..training.conftest import card_without_pictures  # noqa: F401

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
SMALLEST = ("--quick", "--epochs", "1", "--test-points", "6", "--draws", "2", "--device", "cpu", "--seeds", "1")


def command(name: str, data: Path, out: Path, *more: str) -> list[str]:
    return ["reproduce", name, "--data", str(data), "--out", str(out), *SMALLEST, *more]


def smvae(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "smvae_core.cli", *arguments]


def results_of(out: Path) -> list[SystemResult]:
    return [SystemResult.model_validate(x) for x in json.loads((out / "results.json").read_text())["results"]]


def reproduce(name: str, data: Path, out: Path, *systems: str) -> list[SystemResult]:
    """In this process, which has imported everything already."""
    app(
        command(name, data, out, *(word for system in systems for word in ("--systems", system))), standalone_mode=False
    )
    return results_of(out)


@pytest.fixture(scope="module")
def mnist(tmp_path_factory) -> tuple[Path, Path, list[SystemResult]]:
    """All rows on MNIST's files."""
    folder = tmp_path_factory.mktemp("mnist")
    data, out = write_idx(folder / "data"), folder / "out"
    done = run(smvae(*command("mnist", data, out)), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return data, out, results_of(out)


def test_all_rows_are_trained_judged_and_set_beside_the_published_ones(mnist):
    _, out, results = mnist
    assert [r.row for r in results] == [*SYSTEMS, "smvae-paper", "smvae-pull"]
    trainings = {r.settings.configuration.training.model_dump_json(exclude={"seed"}) for r in results}
    assert len(trainings) == 1, "the same learning rate, batches and epochs for all"
    for result in results:
        assert result.quick
        assert [row.given for row in result.likelihoods] == ["x,y", "x"]
        assert all(row.consistent for row in result.likelihoods)
        assert result.coherence is not None
        assert 0.0 <= result.coherence.generated <= 1.0
        assert len(result.evaluation.subsets) == 3
    text = (out / "README.md").read_text()
    assert "Quick settings, not the paper's" in text
    assert "1 epochs instead of 200" in text
    for row in TABLE_1["mnist"]:
        assert f"*{row.system}, published*" in text
    pictures = [out / f"{r.row}-seed0" / name for r in results for name in ("latent.png", "conditional.png")]
    assert all(path.stat().st_size > 1000 for path in pictures)


def test_what_was_trained_is_a_run_with_a_checkpoint_that_the_engine_takes(mnist):
    _, out, results = mnist
    assert {summary.name for summary in find_runs(out).runs} == {f"{r.row}-seed0" for r in results}
    for result in results:
        path = Run(out / f"{result.row}-seed0").last
        assert load(path).metadata.training.configuration == result.settings.configuration
        engine = Engine(load(path), device="cpu")
        assert [modality.name for modality in engine.modalities] == ["image", "label"]


def test_a_finished_system_is_neither_trained_nor_judged_again(mnist):
    data, out, results = mnist
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/*") if path.is_file()}
    assert reproduce("mnist", data, out) == results
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_judgement_that_was_lost_is_made_again_without_training(mnist, tmp_path):
    data, whole, results = mnist
    # The tables are written anew with this row alone, so in a copy.
    out = shutil.copytree(whole, tmp_path / "out")
    (out / "mvae-seed0" / "result.json").unlink()
    before = (out / "mvae-seed0" / "metrics.jsonl").read_text()
    again = reproduce("mnist", data, out, "mvae")
    assert again[0].likelihoods == results[1].likelihoods
    assert (out / "mvae-seed0" / "metrics.jsonl").read_text() == before


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    data, out = write_idx(tmp_path / "data"), tmp_path / "out"
    arguments = [*command("mnist", data, out), "--epochs", "15", "--systems", "mopoe"]
    process = Program(smvae(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if line.startswith("epoch"):
            process.send_signal(signal.SIGINT)
            break
    told += process.stdout.read()
    assert process.wait() == 130
    assert "the same command goes on" in told
    assert 1 <= len(read_metrics(out / "mopoe-seed0" / "metrics.jsonl")) < 15
    app(arguments, standalone_mode=False)
    assert len(read_metrics(out / "mopoe-seed0" / "metrics.jsonl")) == 15
    assert results_of(out)[0].settings.configuration.training.epochs == 15


def test_other_settings_than_a_folder_was_begun_with_are_refused(mnist):
    data, out, _ = mnist
    with pytest.raises(TrainingError, match="expected the configuration that the run began with, found changed"):
        app([word for word in command("mnist", data, out) if word != "--quick"], standalone_mode=False)


def test_other_data_of_the_same_size_are_not_judged_by_what_was_trained_before(mnist, tmp_path):
    data, out, _ = mnist
    other = shutil.copytree(data, tmp_path / "other")
    path = other / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:16] + bytes(255 - pixel for pixel in content[16:])))
    with pytest.raises(ReproductionError, match="smvae-seed0: expected the data that it was trained on, found others"):
        reproduce("mnist", other, out, "smvae")


def test_a_judged_run_can_be_judged_by_the_usual_command_too(mnist, tmp_path):
    data, out, _ = mnist
    arguments = ["evaluate", out / "jmvae-seed0", "--data", data, "--held-out", "--cache", out / "cache", "--most", 8]
    app([*map(str, arguments), "--out", str(tmp_path)], standalone_mode=False)
    found = json.loads((tmp_path / "figures.json").read_text())["evaluation"]
    assert [set(row["subset"]) for row in found["subsets"]] == [{"image", "label"}, {"image"}, {"label"}]


def test_the_tables_go_into_the_results_of_the_benchmarks(mnist, tmp_path):
    _, out, _ = mnist
    path = tmp_path / "RESULTS.md"
    title = "## Reproduced: MNIST: image and label"
    path.write_text(f"# Benchmark results\n\n{title}\n\nof an earlier run\n\n## Other\n\nkept\n")
    arguments = [sys.executable, "-m", "benchmarks.experiments", str(out), "--results", str(path)]
    done = run(arguments, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    assert text.count(title) == 1
    assert "of an earlier run" not in text
    assert "## Other\n\nkept" in text
    assert "*mvae, published*" in text


def test_faces_and_their_attributes(tmp_path):
    result = reproduce("celeba", write_faces(tmp_path / "data"), tmp_path / "out", "mopoe")[0]
    assert all(row.consistent for row in result.likelihoods)
    assert result.settings.configuration.model.latent == 100


def test_five_looks_of_pictures_over_all_their_subsets(tmp_path):
    result = reproduce("vision", write_pictures(tmp_path / "data", 20), tmp_path / "out", "smvae")[0]
    assert len(result.evaluation.subsets) == 31
    assert (tmp_path / "out" / "smvae-seed0" / "from_each.png").stat().st_size > 1000


def test_the_modalities_of_logs_with_probes_of_the_latent_calibration_and_baselines(shared_logs, tmp_path):
    result = reproduce("vision-touch", shared_logs, tmp_path / "out", "crmvae")[0]
    assert len(result.evaluation.subsets) == len(result.probes) == 15
    assert result.calibration is not None and len(result.calibration.subsets) == 15
    text = (tmp_path / "out" / "README.md").read_text()
    assert "contact accuracy, from | crmvae" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| *as a step before*"))
    assert result.baselines is not None
    before = [result.baselines.previous[name] / result.baselines.mean[name] for name in result.baselines.mean]
    assert f"| {sum(before) / len(before):.3f} |" in line
    assert "| row | NMSE from everything | over all subsets | z² | inside 90 % | KL, nats | active dimensions |" in text
    drawn = {path.stem for path in (tmp_path / "out" / "crmvae-seed0").glob("*.png")}
    assert {"from_one", "consecutive", "reliability"} <= drawn, "Fig. 6 (a), Fig. 7 (b)"


def test_logs_of_which_none_has_every_modality(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    for trajectory in range(4):
        lacking = {"depth_data" if trajectory % 2 else "image": None}
        write_log(logs / f"20190408_183040_triangle_0_journal_{trajectory}_0_1000.h5", 10, trajectory, **lacking)
    result = reproduce("vision-touch", logs, tmp_path / "out", "smvae")[0]
    assert [row.samples for row in result.evaluation.subsets][0] == 0
    assert "| rgb + depth + force + action | – |" in (tmp_path / "out" / "README.md").read_text()


def test_every_picture_of_the_report_is_there(mnist, tmp_path):
    reproduce("vision", write_pictures(tmp_path / "data", 12), tmp_path / "vision", "smvae")
    both = {"latent", "predictions"}
    for out, names in (
        (mnist[1], both | {"conditional"}),
        (tmp_path / "vision", both | {"from_each", "from_one", "subsets"}),
    ):
        linked = re.findall(r"\]\(([^)]+\.png)\)", (out / "README.md").read_text())
        assert {Path(path).stem for path in linked} == names
        assert all((out / path).is_file() for path in linked)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fashion-mnist", ("train-images-idx3-ubyte", "dataset-fashion-mnist", "Zalando")),
        ("mnist", ("train-images-idx3-ubyte", "LeCun")),
        ("celeba", ("list_attr_celeba.txt", "CUHK")),
        ("vision", (".jpg", "Vision&Touch", "masks/")),
        ("vision-touch", (".h5", "smvae simulate")),
    ],
)
def test_missing_files_are_named_with_where_to_get_them(tmp_path, name, told):
    with pytest.raises(ReproductionError) as error:
        reproduce(name, tmp_path, tmp_path / "out")
    assert all(word in str(error.value) for word in told)
    assert not (tmp_path / "out").exists()


def test_the_published_rows_of_smvae_break_the_inequalities_and_are_said_to():
    for rows in TABLE_1.values():
        assert [row.consistent for row in rows if row.system == "smvae"] == [False, False]
        assert all(row.consistent in (True, None) for row in rows if row.system in ("jmvae", "mvae", "vae"))


def test_the_rows_of_smvae_have_the_objective_of_their_papers():
    assert {key: getattr(PAPERS_SETTINGS, key) for key in PAPER} == PAPER
    assert ROWS["smvae-pull"].objective == PAPER | {"pull": 0.1}
    assert ROWS["mvae"].objective["random_subsets"] >= 1


def test_memory_is_judged_while_the_cameras_are_off_where_trajectories_are_long_enough(shared_logs, tmp_path):
    results = reproduce("memory", shared_logs, tmp_path / "out", "smvae-memory")
    assert results[0].settings.configuration.model.memory is not None and results[0].outages is None
    assert "no held-out trajectory has the 7 s" in (tmp_path / "out" / "README.md").read_text()
    curve = {"nmse": {name: (0.25, 0.5) for name in ("rgb", "depth", "force", "action")}, "z2": (0.8, 1.2)}
    measured = Outages.model_validate(
        {
            "off": ("rgb", "depth"),
            "ages": (0.25, 5.0),
            "starts": 3,
            "curves": [curve | {"prediction": name} for name in ("with memory, nothing off", "with memory")],
            "forecast_beats_mean": {},
        }
    )
    text = "\n".join(outage_tables.sections([results[0].model_copy(update={"outages": measured})]))
    for line in (
        "| all modalities | nothing is off | 0.375 |",
        "| depth | 5 s | 0.500 |",
        "| z², mean over ages |  | 1.00 |",
    ):
        assert line in text


def test_the_table_has_differences_that_are_paired_by_test_point(mnist):
    _, out, results = mnist
    one, other = (read_points(out / f"{name}-seed0" / POINTS) for name in ("smvae", "jmvae"))
    assert one is not None and other is not None
    # The row with both in the importance distribution has the means of the same points.
    assert results[0].likelihoods[0].joint.mean == pytest.approx(one["joint"].mean(), rel=1e-5)
    difference = other["joint"] - one["joint"]
    expected = f"{difference.mean():+.2f} ± {difference.std(ddof=1) / len(difference) ** 0.5:.2f}"
    text = (out / "README.md").read_text()
    assert f"| jmvae | {expected} |" in text and "Difference to smvae in nats, paired by test point" in text
    stored = json.loads((out / "results.json").read_text())["differences"]
    assert {row["row"] for row in stored} == {r.row for r in results} - {"smvae"}


def test_paired_differences_against_numbers_by_hand(tmp_path):
    random = np.random.default_rng(0)
    truth = {name: random.normal(-230, 40, 500) for name in ("joint", "marginal", "conditional")}
    noise = {seed: random.normal(0, 0.5, 500) for seed in (0, 1)}
    for seed in (0, 1):
        write_points(tmp_path / f"a{seed}.npz", truth)
        write_points(tmp_path / f"b{seed}.npz", {name: x - 2.0 + noise[seed] + seed for name, x in truth.items()})
    found = {row: {seed: read_points(tmp_path / f"{row}{seed}.npz") for seed in (0, 1)} for row in "ab"}
    (one,) = differences(found)
    mean = -1.5 + (noise[0] + noise[1]) / 2
    assert (one.row, one.reference, one.seeds, one.points) == ("b", "a", 2, 500)
    assert one.mean["joint"] == pytest.approx(mean.mean(), abs=1e-4)
    # Unpaired, the standard error would be 40 / sqrt(500): a hundred times as much.
    assert one.error["joint"] == pytest.approx(mean.std(ddof=1) / 500**0.5, rel=1e-3)
    assert one.spread["joint"] == pytest.approx(np.std([noise[0].mean(), noise[1].mean() + 1], ddof=1), abs=1e-4)
    assert differences({"a": found["a"]}) == []


def test_training_on_at_most_so_many_images(tmp_path):
    data, out = write_idx(tmp_path / "data"), tmp_path / "out"
    limited = replace(EXPERIMENTS["mnist"].quick, images=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXPERIMENTS, "mnist", replace(EXPERIMENTS["mnist"], quick=limited))
        (result,) = reproduce("mnist", data, out, "smvae-paper")
        assert ": 20 samples trained on" in result.data
        assert result.settings.configuration.objective.reconstruct == "observed"
        assert reproduce("mnist", data, out, "smvae-paper") == [result]
