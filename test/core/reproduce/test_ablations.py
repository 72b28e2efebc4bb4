"""The rows of the ablations: each takes one part of the first away."""

from pathlib import Path

import yaml

from smvae_core.data.corruption import CorruptionConfiguration
from smvae_core.reproduce.experiments import EXPERIMENTS
from smvae_core.reproduce.rows import ROWS

ROOT = Path(__file__).parents[3]


def test_each_row_of_the_ablation_takes_one_part_of_the_first_away(tmp_path):
    first, off = taken_away("ablation", tmp_path)
    assert first["objective"]["subset_kl"] > 0 and first["objective"]["subset_likelihood"] > 0
    shipped = yaml.safe_load((ROOT / "config/peg_insertion.yaml").read_text())["corruption"]
    assert first["corruption"] == CorruptionConfiguration.model_validate(shipped).model_dump()
    assert off == [
        {"objective.subset_kl", "objective.full_kl", "objective.full_set"},
        {"objective.subset_likelihood"},
        {"corruption.images", "corruption.numbers"},
    ]


def test_each_row_of_the_ablation_of_memory_takes_one_part_of_the_first_away(tmp_path):
    first, off = taken_away("memory", tmp_path)
    shipped = yaml.safe_load((ROOT / "config/peg_insertion_memory.yaml").read_text())
    assert first["model"]["memory"] == shipped["model"]["memory"]
    assert 0.0 < first["sequences"]["absent"] < 1.0 and first["sequences"]["longest_outage"] > 0.0
    assert off == [{"sequences.absent"}, {"sequences.longest_outage"}, {"model.memory"}]


def taken_away(name: str, folder: Path) -> tuple[dict, list[set[str]]]:
    """The settings of the first row of an experiment, and those that differ in each of the others."""
    experiment = EXPERIMENTS[name]
    first, *others = (
        experiment.configuration(ROWS[row], 0, experiment.quick, folder, "logs").model_dump() for row in experiment.rows
    )
    return first, [
        {
            f"{section}.{key}"
            for section in first
            for key in first[section]
            if first[section] != row[section] and first[section][key] != row[section][key]
        }
        for row in others
    ]
