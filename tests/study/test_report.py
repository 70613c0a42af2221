"""The report page: what is on it, and what a real browser makes of it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import SMALL, flags
from rmbpo_fast import analyze, evaluate, report, train

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page about an MBPO run and an RMBPO run, evaluated and analysed."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for algo in ("mbpo", "rmbpo"):
            words = flags(env="inverted_pendulum", **SMALL, algo=algo, threads=1)
            words += flags(run_dir=f"runs/{algo}")
            assert train.main(words) == 0
        assert analyze.main(["runs/rmbpo", "--episodes", "2"]) == 0
        few = ["--episodes", "2"]
        assert evaluate.main(["runs/*", "--distort", "pole_mass=5,50,100", *few]) == 0
        grid = ["--distort", "pole_mass=5,100", "--vs", "gravity=9,10"]
        assert evaluate.main(["runs/*", *grid, *few]) == 0
        assert report.main(["runs/*", "--out", "page.html"]) == 0
    return root / "page.html"


def test_everything_is_on_the_page(page):
    text = html.unescape(page.read_text())
    for words in (
        "Learning curves",
        "InvertedPendulum-v2, pole_mass (2 episodes)",
        "InvertedPendulum-v2, pole_mass and gravity (2 episodes)",
        "rmbpo (RMBPO, eta 0.05, 1 update a step, random-steps ",
        "pole angular velocity (rad",
        "world_model",
        "<td>algo</td><td>mbpo</td><td>rmbpo</td>",
    ):
        assert words in text, words
    assert "Not analysed yet" not in text
    # 2 learning curves, a robustness curve for each group, and the times of 8 phases
    assert text.count('"type":"scatter"') >= 4
    assert text.count('"type":"heatmap"') >= 2


def test_the_page_needs_no_network(page):
    outside = re.findall(r'(?:src|href)\s*=\s*["\'](?!#|data:)[^"\']*', page.read_text()[:4_000])
    assert not outside
    body = page.read_text().split("</script>", 1)[1]
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", body)


def test_what_is_missing_is_named(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(page.parent / "runs/rmbpo", "run")
    shutil.rmtree("run/analysis")
    assert report.main(["run"]) == 0
    text = html.unescape(Path("report.html").read_text())
    assert "python -m rmbpo_fast.evaluate run --grid paper" in text
    assert "python -m rmbpo_fast.analyze run" in text
    before = Path("report.html").read_text()
    metrics = Path("run/metrics.csv").read_bytes()
    capsys.readouterr()
    for broken in (b"", b"a,b\n1,2\n", b"\xff\xfe,\n", metrics.split(b"\n")[0] + b"\n"):
        Path("run/metrics.csv").write_bytes(broken)
        assert report.main(["run"]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    for words, status in ((["nothing"], 1), (["--out", "page.html"], 2)):
        assert report.main(words) == status
        assert capsys.readouterr().err.count("\n") == 1
    assert Path("report.html").read_text() == before


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desktop"])
def test_a_browser_draws_it_without_errors_or_sideways_scrolling(page, tmp_path, width):
    probe = """<script>
      window.problems = [];
      window.addEventListener("error", e => window.problems.push(e.message));
      window.addEventListener("load", () => setTimeout(() => {
        const plots = [...document.querySelectorAll(".js-plotly-plot")];
        const result = {problems: window.problems, plots: plots.length,
          drawn: plots.filter(p => p.querySelector(".main-svg")).length,
          width: window.innerWidth, scroll: document.documentElement.scrollWidth,
          widest: Math.max(...plots.map(p => p.getBoundingClientRect().right)),
          cut: [...document.querySelectorAll(".ytick text")]
            .filter(t => t.getBoundingClientRect().left < -1).length};
        parent.postMessage(JSON.stringify(result), "*");
      }, 1500));</script>"""
    inner = page.read_text().replace("<head>", "<head>" + probe, 1)
    (tmp_path / "inner.html").write_text(inner)
    # a window can't be as narrow as a phone, a frame can
    (tmp_path / "outer.html").write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:4000px;border:0"></iframe>'
        '<script>window.onmessage = e => {document.title = "done"; '
        'document.body.insertAdjacentHTML("beforeend", "<pre>" + e.data + "</pre>");}</script>'
    )
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,900",
            "--virtual-time-budget=20000",
            "--dump-dom",
            (tmp_path / "outer.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    found = re.search(r"<pre>(\{.*\})</pre>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    result = json.loads(html.unescape(found.group(1)))
    assert result["problems"] == []
    assert result["plots"] == result["drawn"] == 5
    assert result["width"] == width
    assert result["scroll"] <= width
    assert result["widest"] <= width
    assert result["cut"] == 0


def test_results_are_matched_by_policy_and_a_cut_row_is_left_out(page, tmp_path, monkeypatch):
    """Run from elsewhere, on a run named by its absolute path beside one named by a relative."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(page.parent / "runs/mbpo", "run")
    metrics = Path("run/metrics.csv").read_text()
    Path("run/metrics.csv").write_text(metrics[: metrics.rindex(",")])
    words = ["run", str(page.parent / "runs/rmbpo"), "--evaluations"]
    assert report.main([*words, str(page.parent / "evaluations")]) == 0
    text = html.unescape(Path("report.html").read_text())
    assert "InvertedPendulum-v2, pole_mass (2 episodes)" in text
    shutil.copy(page.parent / "runs/rmbpo/policy.safetensors", "run")
    shutil.rmtree("run/policies")
    (tmp_path / "empty").mkdir()
    assert report.main(["run", "--evaluations", str(tmp_path / "empty")]) == 0
    assert "No evaluation of these runs" in html.unescape(Path("report.html").read_text())
    (tmp_path / "empty/results.json").write_text("[]")
    assert report.main(["run", "--evaluations", str(tmp_path / "empty")]) == 1


def test_only_an_adversarys_run_is_to_be_analysed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for algo in ("mbpo", "sac"):
        shutil.copytree(page.parent / "runs/mbpo", algo)
        config = (tmp_path / algo / "config.json").read_text()
        (tmp_path / algo / "config.json").write_text(
            config.replace('"algo": "mbpo"', f'"algo": "{algo}"')
        )
    assert report.main(["mbpo", "sac"]) == 0
    text = html.unescape(Path("report.html").read_text())
    assert "None of these runs has an adversary" in text
    assert "Not analysed yet" not in text


def test_every_group_has_a_colour_of_its_own(page, tmp_path, monkeypatch):
    """Also one that only the evaluation knows."""
    monkeypatch.chdir(tmp_path)
    evaluations = str(page.parent / "evaluations")
    words = [str(page.parent / "runs/rmbpo"), "--evaluations", evaluations]
    assert report.main(words) == 0
    text = Path("report.html").read_text()
    figure = text[text.index("pole_mass (2 episodes)") :].split("Plotly.newPlot", 1)[1]
    colours = re.findall(
        r'"line":\{"color":"(#\w+)"\},"mode":"lines\+markers"', figure.split("</script>")[0]
    )
    assert len(colours) == len(set(colours)) == 2
