"""`smvae replay` leaves its report beside the results, and a page that leads to those of several bags."""

from collections.abc import Callable, Iterator
from pathlib import Path

from smvae_ros.replay.job import ReplayJob
from smvae_ros.report.findings import findings
from smvae_ros.report.replays import replay_many, replay_with_report
from smvae_ros.report.results import read_results


def test_a_replay_ends_with_its_report(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    job = ReplayJob(checkpoint=checkpoint, device="cpu", faults={"drop": ("rgb@0.2:0.5", "wrench")})
    summary = replay_with_report(bag, tmp_path / "results", job, 1)
    text = (tmp_path / "results" / "report.html").read_text()
    assert summary.bag_sha256 in text and summary.settings_sha256 in text
    assert "rgb: taken away from 0.2 to 0.5 s" in text and "force: taken away" in text
    assert text.count('<tr><th scope="row" class="text" data-value=') == 15


def test_a_robot_without_some_modalities_gets_its_answers_too(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def lacking(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        if topic not in ("/depth/image", "/wrench"):
            yield log_ns, content

    job = ReplayJob(checkpoint=checkpoint, device="cpu", faults={"drop": ("depth,wrench,rgb@100:200",)})
    summary = replay_with_report(edited(bag, lacking), tmp_path / "results", job, 1)
    assert "/rgb/image: nothing to take away from 100 to 200 s, where it has no messages" in summary.warnings
    good, _, blind = findings(read_results(tmp_path / "results"))
    assert good.answer.startswith("From rgb + action, the most that a set held, ")
    assert good.details[1].startswith("depth: not judged") and " from rgb + action, " in good.details[0]
    assert blind.details[0].startswith("without rgb: ") and blind.word
    dropped = ReplayJob(checkpoint=checkpoint, device="cpu", faults={"drop": ("rgb,depth",)})
    replay_with_report(bag, tmp_path / "blind", dropped, 1)
    _, _, blind = findings(read_results(tmp_path / "blind"))
    assert blind.answer.startswith("No set had a camera. By force + action, ") and blind.word


def test_several_bags_get_a_page_that_leads_to_their_reports(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    bags = {"good": bag, "bad": tmp_path / "bad"}
    replay_many(bags, tmp_path / "out", ReplayJob(checkpoint=checkpoint, device="cpu"), lambda: None)
    text = (tmp_path / "out" / "index.html").read_text()
    assert 'href="good/report.html"' in text and (tmp_path / "out" / "good" / "report.html").is_file()
    assert "1 could not be replayed" in text
