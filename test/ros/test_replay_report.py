"""`smvae replay` leaves its report beside the results, and a page that leads to those of several bags."""

from pathlib import Path

from smvae_ros.replay.many import ReplayJob, replay_many


def test_a_replay_ends_with_its_report(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    job = ReplayJob(checkpoint=checkpoint, device="cpu", drop=("rgb@0.2:0.5", "wrench"))
    summary = job.run(bag, tmp_path / "results", 1)
    text = (tmp_path / "results" / "report.html").read_text()
    assert summary.bag_sha256 in text and summary.settings_sha256 in text
    assert "rgb: taken away from 0.2 to 0.5 s" in text and "force: taken away" in text
    assert text.count('<tr><th scope="row" class="text" data-value=') == 15


def test_several_bags_get_a_page_that_leads_to_their_reports(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    bags = {"good": bag, "bad": tmp_path / "bad"}
    replay_many(bags, tmp_path / "out", ReplayJob(checkpoint=checkpoint, device="cpu"), 1, lambda result: None)
    text = (tmp_path / "out" / "index.html").read_text()
    assert 'href="good/report.html"' in text and (tmp_path / "out" / "good" / "report.html").is_file()
    assert "1 could not be replayed" in text
