"""The report: one file with the numbers, that fetches nothing and takes no string for markup."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from mer.errors import UserError
from mer.evaluation import Scores
from mer.evaluation.summary import evaluate
from mer.inference.report import write_report
from mer.inference.timeline import Segment, Timeline
from mer.labels import SPACES, LabelSpace

HOSTILE = "<script>alert('x')</script>\"><img src=/x onerror=y> & ]]>"
VOID = {"meta", "img", "br", "line", "rect", "circle", "polyline"}


class Outline(HTMLParser):
    """Checks that tags are closed in order; collects tags, attributes and text."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def scores_of(space: LabelSpace, subjects: int = 12, seed: int = 0, clips: int = 10) -> Scores:
    rng, n = np.random.default_rng(seed), subjects * clips
    p = rng.dirichlet(np.ones(len(space)), n) if space.kind == "classes" else rng.random((n, len(space)))
    if space.kind == "classes":
        target = np.where(rng.random(n) < 0.6, p.argmax(1), rng.integers(len(space), size=n))
    else:
        target = (p + 0.2 * rng.random(p.shape) > 0.6).astype(float)
    nothing = np.full(n, np.nan)
    people = [f"s{i // clips}" for i in range(n)]
    return Scores("emotion", space, "loso", [f"c{i}" for i in range(n)], nothing, nothing, p, target, subject=people)


RAVDESS = SPACES["ravdess8.v1"]
EVALUATION = evaluate(scores_of(RAVDESS), draws=200)


def report(tmp_path, **how) -> tuple[str, Outline]:
    path = tmp_path / "report.html"
    write_report(path, **({"title": "A run", "evaluation": EVALUATION} | how))
    assert [f.name for f in tmp_path.iterdir() if "report" in f.name] == ["report.html"]
    html = path.read_text(encoding="utf-8")
    return html, Outline(html)


def a_timeline(clip: str = "clip 1") -> Timeline:
    return Timeline(clip, "emotion", RAVDESS, np.arange(5) / 5, np.full((5, 8), 0.125), 1.0)


def test_the_score_stands_with_its_interval_and_the_baseline(tmp_path):
    _, page = report(tmp_path, intro="Why we did it.")
    war = EVALUATION.metrics["war"]
    low, high = (f"{100 * end:.1f}" for end in (war.interval.low, war.interval.high))
    assert f"{100 * war.value:.1f}%" in page.text
    assert f"{low} to {high} is the 95 % interval, resampled over 12 subjects." in page.text
    assert EVALUATION.baselines["majority"].rule in page.text
    assert f"{100 * EVALUATION.baselines['majority'].metrics['war']:.1f}" in page.text
    assert "Protocol: loso." in page.text
    assert "Why we did it." in page.text


def test_classes_and_confusions_are_all_there(tmp_path):
    html, page = report(tmp_path)
    for i, name in enumerate(RAVDESS.names):
        assert name in page.text
        assert f"{100 * EVALUATION.classes.recall[i]:.1f}" in page.text
    counts = [int(n) for n in re.findall(r"<small>(\d+)</small>", html)]
    assert counts == EVALUATION.confusion.ravel().tolist()
    shares = [int(n) for n in re.findall(r"<b>(\d+)</b><small>", html)]
    assert shares == [round(100 * n / row.sum()) for row in EVALUATION.confusion for n in row]


def test_comparisons_mark_the_reported_system_and_draw_every_interval(tmp_path):
    face = evaluate(scores_of(RAVDESS, seed=1), draws=200)
    html, page = report(tmp_path, comparisons=[("face only", face), ("both", EVALUATION)])
    assert "face only" in page.text
    assert f"{100 * face.metrics['war'].value:.1f}" in page.text
    assert '<tr class=own><th scope="row">both</th>' in html
    assert "this report" not in page.text
    labels = [svg["aria-label"] for svg in page.named("svg")]
    assert any(f"{100 * face.metrics['war'].value:.1f}, interval" in label for label in labels)
    _, page = report(tmp_path, comparisons=[("face only", face)])
    assert "this report" in page.text


def test_comparisons_on_other_clips_are_stamped_and_of_other_classes_refused(tmp_path):
    fewer = evaluate(scores_of(RAVDESS, subjects=11), draws=200)
    assert "not scored on the same clips" in report(tmp_path, comparisons=[("few", fewer)])[1].text
    other = evaluate(scores_of(SPACES["synthetic_xor.v1"]), draws=200)
    with pytest.raises(UserError, match="label space"):
        report(tmp_path, comparisons=[("other", other)])


def test_hostile_strings_stay_text(tmp_path):
    space = LabelSpace("x<y>", ("<i>a</i>", "b&", '"c"'))
    evaluation = evaluate(scores_of(space), draws=200)
    curves = tmp_path / "metrics.csv"
    curves.write_text("epoch,step,<script>/<script>\n0,0,1\n")
    timeline = Timeline(HOSTILE, "t", space, [0.0], np.full((1, 3), 1 / 3), 1.0)
    html, page = report(
        tmp_path,
        title=HOSTILE,
        intro=HOSTILE,
        evaluation=evaluation,
        comparisons=[(HOSTILE, evaluation)],
        timelines=[(timeline, [Segment(0, 1, HOSTILE)])],
        curves=curves,
        facts={HOSTILE: HOSTILE},
        config=HOSTILE,
        notes=[HOSTILE],
    )
    assert "<script" not in html
    assert not page.named("script")
    assert not page.named("i")
    assert len(page.named("img")) == 1
    assert page.text.count(HOSTILE) >= 6
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_nothing_is_fetched(tmp_path):
    curves = tmp_path / "metrics.csv"
    curves.write_text("epoch,train/loss,val/loss\n0,2,\n0,,1.5\n1,1,\n1,,1.25\n")
    html, page = report(tmp_path, timelines=[(a_timeline(), None)], curves=curves, comparisons=[("a", EVALUATION)])
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", html))
    assert not re.search(r"@import|url\(", html)
    assert not page.named("link")
    for tag, attributes in page.tags:
        assert "href" not in attributes, tag
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")


def test_pictures_are_inside_and_described(tmp_path):
    _, page = report(tmp_path, timelines=[(a_timeline("clip 1"), None), (a_timeline("clip 2"), [])])
    images = page.named("img")
    assert len(images) == 2
    assert base64.b64decode(images[0]["src"].partition(",")[2]).startswith(b"\x89PNG")
    assert "clip 1" in images[0]["alt"]
    assert page.named("html") == [{"lang": "en"}]
    assert all("scope" in attributes for attributes in page.named("th"))
    assert all(attributes.get("aria-label") for attributes in page.named("svg"))


def test_clips_with_nothing_to_read_are_described(tmp_path):
    some, none = a_timeline("some"), a_timeline("none")
    some.probabilities[2:4] = np.nan
    none.probabilities[:] = np.nan
    _, page = report(tmp_path, timelines=[(some, None), (none, None)])
    alts = [image["alt"] for image in page.named("img")]
    assert "Nothing to read in 2 of 5 frames" in alts[0]
    assert "neutral 12 %" in alts[0]
    assert "nothing to read in any frame" in alts[1]
    assert not [alt for alt in alts if "nan" in alt.lower()]


@pytest.mark.browser
def test_in_a_narrow_window_tables_scroll_and_captions_fit_their_box(tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    html, _ = report(tmp_path, comparisons=[("a system with a long name", EVALUATION), ("b", EVALUATION)])
    measure = (
        "<p id=told></p><script>const boxes = [...document.querySelectorAll('.scroll')].map(b => [b.clientWidth,"
        " b.scrollWidth, b.querySelector('caption').getBoundingClientRect().width]);"
        "told.textContent = JSON.stringify([document.documentElement.scrollWidth, boxes])</script></body>"
    )
    allowed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    (tmp_path / "measured.html").write_text(allowed.replace("</body>", measure), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--window-size=500,900", "--dump-dom"]
    command = [browser, *flags, (tmp_path / "measured.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    width, boxes = json.loads(re.search(r'<p id="told">(.*?)</p>', dom)[1])
    assert width <= 500
    assert any(content > box for box, content, _ in boxes)
    assert all(caption <= box + 0.5 for box, _, caption in boxes)


def test_curves_join_the_rows_of_an_epoch_and_leave_blanks_out(tmp_path):
    curves = tmp_path / "metrics.csv"
    curves.write_text(
        "epoch,step,lr-AdamW,train/loss_step,train/loss_epoch,val/loss,val/war,val/odd\n"
        "0,9,0.1,9.0,,,,\n0,19,,,2.0,,,\n0,19,,,,1.5,0.5,nan\n"
        "1,29,,,3.0,,,\n1,39,,,1.0,,,\n1,39,,,,1.25,0.75,inf\n"
    )
    _, page = report(tmp_path, curves=curves)
    labels = [svg["aria-label"] for svg in page.named("svg")]
    assert "loss over epochs 0 to 1: train ends at 2, val ends at 1.25" in labels
    assert "war over epochs 0 to 1: val ends at 0.75" in labels
    assert not [label for label in labels if "odd" in label or "lr" in label]


def test_curves_of_one_epoch_or_of_none(tmp_path):
    curves = tmp_path / "metrics.csv"
    curves.write_text("epoch,step,val/loss\n3,1,0.5\n")
    assert any("epochs 3 to 3" in svg["aria-label"] for svg in report(tmp_path, curves=curves)[1].named("svg"))
    curves.write_text("")
    assert "No curve was logged" in report(tmp_path, curves=curves)[1].text
    with pytest.raises(UserError, match="no such file"):
        report(tmp_path, curves=tmp_path / "none.csv")


def test_facts_configuration_and_notes_are_told(tmp_path):
    html, page = report(tmp_path, facts={"seed": "7"}, config="model:\n  dim: 8\n", notes=["Mind the gap."])
    assert "<dt>seed</dt><dd>7</dd>" in html
    assert "model:\n  dim: 8" in page.text
    assert len(page.named("details")) == 1
    assert "Mind the gap." in page.text


def test_few_subjects_give_no_interval_and_a_warning(tmp_path):
    few = evaluate(scores_of(RAVDESS, subjects=3, clips=3))
    _, page = report(tmp_path, evaluation=few)
    assert "No interval" in page.text
    assert few.warnings
    assert all(warning in page.text for warning in few.warnings)


@pytest.mark.parametrize("kind", ["multilabel", "continuous"])
def test_other_kinds_of_task_are_reported_too(tmp_path, kind):
    evaluation = evaluate(scores_of(LabelSpace("k.v1", ("happy", "sad"), kind)), draws=200)
    html, page = report(tmp_path, evaluation=evaluation, comparisons=[("other", evaluation)])
    assert "Confusions" not in page.text
    assert ("Label by label" in page.text) == (kind == "multilabel")
    assert ("CCC" in page.text) == (kind == "continuous")
    assert "nan" not in html.lower()


def test_a_report_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "file" / "r.html", title="t", evaluation=EVALUATION)
