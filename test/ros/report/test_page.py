"""The report in a real browser: it opens, its figures show, its controls work, it reads in every form."""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from smvae_core.calibration import Calibration, SubsetCalibration
from smvae_core.subsets import all_subsets
from smvae_ros.report.write import write_report

from .made_up import BEGIN_NS, NAMES, lie, write_results

BRIGHTNESS = """selector => {
    const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
    const light = text => { const [r, g, b] = rgb(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const style = element => getComputedStyle(element);
    const colours = [style(document.querySelector(selector)).color, style(document.body).backgroundColor];
    const [a, b] = colours.map(light);
    return [b, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
}"""

NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=img], canvas")].filter(e =>
    !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML.slice(0, 80))"""

PIXELS = """(canvas) => { const found = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0; for (let i = 0; i < found.length; i++) sum += found[i] * (1 + i % 251); return sum; }"""


@pytest.fixture
def opened(opens, report):
    return opens(report)


@pytest.fixture
def page(opened):
    return opened.page


def test_it_opens_without_a_complaint_and_asks_for_nothing(opened, report):
    urls = [url for url in opened.requests if not url.startswith("data:")]
    assert opened.errors == []
    assert urls == [report.as_uri()]


def test_each_figure_shows(page):
    assert page.locator("#errors-table tbody tr").count() == 15
    for name in NAMES:
        assert page.locator(f"#availability-chart [data-modality={name}]").count() >= 1
    # rgb comes, goes and comes back.
    assert page.locator("#availability-chart [data-modality=rgb]").count() == 2
    assert page.locator("#errors-charts svg").count() == 4
    assert page.locator("#values-force svg").count() == 6 and page.locator("#values-action svg").count() == 4
    lines = page.locator(".panels svg path.line").evaluate_all("paths => paths.map(path => path.getTotalLength())")
    assert len(lines) == 4 * 2 + 10 * 3 and min(lines) > 300
    assert page.locator("#attention-chart path.bar").count() == 4
    assert page.locator("#latent-chart circle:not(.now)").count() == 750
    assert page.locator("#wait-chart rect").count() == 40
    # Two images, each recorded and predicted in four ways, with uncertainties; eight moments of each in the film.
    assert page.locator(".compare canvas").count() == 2 * (1 + 2 * 4)
    assert page.locator(".film canvas").count() == 2 * 8 * 5


def test_pictures_are_drawn_and_a_missing_one_is_not(page):
    film = page.locator("#film-rgb canvas")
    sums = film.evaluate_all(f"found => found.map({PIXELS})")
    # rgb is out from 20 % to 30 % of the bag.
    out = [i for i, label in enumerate(film.evaluate_all("f => f.map(c => c.ariaLabel)")) if label.endswith("nothing")]
    assert all((total == 0) == (i in out) for i, total in enumerate(sums))
    assert len(out) < 8


def test_the_scrubber_moves_the_pictures_and_the_line(page):
    picture, moment = page.locator("#compare-rgb canvas").nth(1), page.locator("#moment")
    line = page.locator("#availability-chart .cursor")
    before = picture.evaluate(PIXELS), moment.inner_text(), line.get_attribute("x1")
    page.locator("#scrubber").focus()
    page.keyboard.press("ArrowRight")
    after = picture.evaluate(PIXELS), moment.inner_text(), line.get_attribute("x1")
    assert all(a != b for a, b in zip(before, after))
    page.locator("#before").click()
    assert (picture.evaluate(PIXELS), moment.inner_text(), line.get_attribute("x1")) == before
    page.locator("#film-depth [data-moment='0']").first.click()
    assert moment.inner_text().endswith("(1 of 24)")
    assert page.locator("#scrubber").input_value() == "0"


def test_a_click_on_a_chart_moves_the_pictures(page):
    chart = page.locator("#errors-rgb svg")
    chart.click(position={"x": chart.bounding_box()["width"] - 10, "y": 40})
    assert page.locator("#moment").inner_text().endswith("(24 of 24)")


def test_the_latent_changes_its_colour_and_its_projection(page):
    points = page.locator("#latent-chart circle:not(.now)")
    colours = "found => new Set(found.map(c => getComputedStyle(c).color)).size"
    legend = page.locator("#latent-legend")
    assert points.evaluate_all(colours) == 2 and "contact: force above 2 N" in legend.inner_text()
    contact = legend.inner_text()
    page.get_by_label("Contact above").fill("1000")
    assert points.evaluate_all(colours) == 1 and legend.inner_text() != contact
    page.get_by_label("modalities in the set").check()
    assert points.evaluate_all(colours) == 3 and "depth + force + action (75)" in legend.inner_text()
    page.get_by_label("time", exact=True).check()
    assert points.evaluate_all(colours) > 100
    places = points.evaluate_all("found => found.map(c => c.getAttribute('cx'))")
    page.get_by_label("t-SNE").check()
    assert points.evaluate_all("found => found.map(c => c.getAttribute('cx'))") != places


def test_the_table_sorts_both_ways_by_mouse_and_keyboard(page):
    column = "rows => rows.map(row => Number(row.cells[2].dataset.value))"
    rows = page.locator("#errors-table tbody tr")
    heading = page.locator("#errors-table th").nth(2)
    heading.get_by_role("button").click()
    assert rows.evaluate_all(column) == sorted(rows.evaluate_all(column))
    assert heading.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert rows.evaluate_all(column) == sorted(rows.evaluate_all(column), reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    assert rows.count() == 15


def test_the_charts_zoom_by_numbers_and_by_dragging(page):
    bars = page.locator("#availability-chart [data-modality=rgb]")
    page.locator("#from").fill("7")
    page.locator("#to").fill("8")
    page.locator("#to").press("Enter")
    assert bars.count() == 0
    page.get_by_role("button", name="Whole bag").click()
    assert bars.count() == 2
    page.locator("#availability-chart svg").scroll_into_view_if_needed()
    box = page.locator("#availability-chart svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20, steps=4)
    page.mouse.up()
    assert 12 < float(page.locator("#from").input_value()) < 18 < float(page.locator("#to").input_value()) < 26
    assert bars.count() == 1


def test_other_predictions_are_compared_on_request(page):
    line = page.locator("#errors-rgb path.dashed").first
    before = line.get_attribute("d")
    page.locator("#compare").select_option("action")
    assert page.locator("#errors-rgb path.dashed").first.get_attribute("d") != before
    assert "from action" in page.locator("#errors-legend").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_by_day_and_by_night(opens, report, scheme):
    page = opens(report, color_scheme=scheme).page
    for selector in ("h1", ".note", ".finding li", "svg text", ".verdict"):
        ground, contrast = page.evaluate(BRIGHTNESS, selector)
        assert (ground > 0.5) == (scheme == "light")
        assert contrast >= 4.5, selector


def test_print_leaves_the_controls_out_and_keeps_the_figures(page):
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible() and not page.locator("#latent-controls").is_visible()
    assert page.locator("#film-rgb").is_visible() and page.locator("#errors-table").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_phone_shows_it_without_scrolling_sideways(opens, report):
    page = opens(report, viewport={"width": 390, "height": 844}).page
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_everything_that_acts_or_shows_has_a_name(page):
    assert page.evaluate(NAMELESS) == []


def test_a_robot_without_a_camera_gets_a_page_too(opens, tmp_path):
    opened = opens(write_report(write_results(tmp_path, 60, names=("force", "action"))))
    assert opened.errors == []
    assert opened.page.locator("#errors-table tbody tr").count() == 3
    assert "no camera" in opened.page.locator("#summary").inner_text()


def test_no_line_leads_across_a_time_without_sets(opens, tmp_path):
    write_results(tmp_path, 300, 4)
    table = pq.read_table(tmp_path / "sets.parquet")
    later = pc.cast(pc.greater(table["log_ns"], BEGIN_NS + 8 * 10**9), "int64")
    moved = pc.add(table["log_ns"], pc.multiply(later, 10**10))
    pq.write_table(table.set_column(table.column_names.index("log_ns"), "log_ns", moved), tmp_path / "sets.parquet")
    page = opens(write_report(tmp_path)).page
    runs = page.locator("#errors-depth path.line:not(.dashed)").get_attribute("d").split("M")[1:]
    ends = [(float(run.split()[0]), float(run.split("L")[-1].split()[0])) for run in runs]
    assert len(ends) == 2 and ends[1][0] - ends[0][1] > 100
    # The stacked shares fall to the floor for as long.
    filled = "path => [0.2, 0.6].map(x => path.isPointInFill(new DOMPoint(46 + x * (path.getBBox().width), 160 - 1)))"
    assert page.locator("#attention-chart path.bar").first.evaluate(filled) == [True, False]


def test_one_single_set_gets_a_page_too(opens, tmp_path):
    opened = opens(write_report(write_results(tmp_path, 1, 1)))
    assert opened.errors == []
    assert opened.page.locator("#latent-chart circle:not(.now)").count() == 1
    assert opened.page.locator("#latent-controls [value=tsne]").is_disabled()


def test_a_modality_that_never_differs_from_its_mean_is_shown_with_a_dash(opens, tmp_path):
    folder = write_results(tmp_path / "constant", 30, 2)
    summary = json.loads((folder / "summary.json").read_text())
    for row in summary["evaluation"]["subsets"]:
        del row["nmse"]["action"]
    (folder / "summary.json").write_text(json.dumps(summary))
    opened = opens(write_report(folder))
    assert opened.errors == []
    cells = opened.page.locator("#errors-table tbody tr td:last-child").all_inner_texts()
    assert cells == ["–"] * 15
    assert "–" in opened.page.locator("#errors-charts").inner_text()


def test_calibration_is_drawn_and_its_absence_is_told(opens, report, tmp_path):
    assert "no calibration" in opens(report).page.locator("#calibration").inner_text()
    rows = [
        SubsetCalibration(
            subset=subset, samples=50, z2=1.2, kl=9.5, coverage={name: (0.1, 0.3, 0.5, 0.7, 0.88) for name in NAMES}
        )
        for subset in all_subsets(NAMES)
    ]
    calibration = Calibration(
        fitted_on=("a",),
        tested_on=("b",),
        samples=(50, 50),
        split="trajectory",
        latent=64,
        active=12,
        levels=(0.1, 0.3, 0.5, 0.7, 0.9),
        subsets=tuple(rows),
    )
    opened = opens(write_report(write_results(tmp_path / "calibrated", 30, 2, calibration=calibration)))
    section = opened.page.locator("#calibration")
    assert opened.errors == []
    assert section.get_by_role("img").count() == len(NAMES)
    assert section.locator("polyline").count() == len(NAMES) * 5, "all modalities, and each alone"
    assert section.locator("#calibration-table tbody tr").count() == 15
    assert "12 of 64 dimensions" in section.inner_text() and "88\N{NO-BREAK SPACE}%" in section.inner_text()


def test_trust_shows_when_a_fault_was_noticed_and_what_it_cost(opens, tmp_path):
    faults = [
        {"kind": "freeze", "modality": "depth", "start": 2.0, "end": 6.0},
        {"kind": "scale", "modality": "force", "amount": 1.1, "start": 7.0},
    ]
    folder = write_results(tmp_path / "lie", 300, 4, what_if={"faults": faults})
    lie(folder, "depth", 2.4, 6.4)
    opened = opens(write_report(folder))
    section = opened.page.locator("#trust")
    assert opened.errors == []
    assert section.locator("#trust-chart path.line").count() == len(NAMES)
    assert section.locator("#trust-chart rect.shade").count() == 1, "one time of distrust"
    assert section.locator("#trust-chart rect.bar").count() == len(faults)
    depth, force = section.locator("tbody tr").all_inner_texts()
    assert "freeze from 2 to 6 s" in depth and "0.40 s" in depth and "stayed in the sets" in depth
    assert depth.count("rgb") == 2, "errors of the others with it and without it"
    assert "never" in force


def test_a_checkpoint_without_trust_is_told(opens, tmp_path):
    folder = write_results(tmp_path / "untold", 30, 2)
    table = pq.read_table(folder / "sets.parquet")
    for column in [name for name in table.column_names if name.startswith("distrusted_")]:
        table = table.set_column(table.column_names.index(column), column, pa.nulls(len(table), pa.bool_()))
    pq.write_table(table, folder / "sets.parquet")
    opened = opens(write_report(folder))
    assert opened.errors == []
    assert "smvae trust" in opened.page.locator("#trust").inner_text()
