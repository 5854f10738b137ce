"""The pages in headless Chromium: no violation of axe's rules, nothing wider than the screen, a viewer that works.

Needs Chromium, and axe-core of the package axe-core-python.
"""

import html
import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.evaluation import lesion_table, matches_of_images, region_contrast
from pipeline.images import gaussian_filter_mm, regions_in_either
from pipeline.pet import PETHeader, PETSeries
from pipeline.report import write_report, write_viewer
from tests.report.test_cohort_page import table_of
from tests.report.test_cohort_page import write as write_cohort

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
DARK = "--blink-settings=preferredColorScheme=0"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="not installed: chromium"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Report and viewer of one simulated scan with 24 lesions, one of which is lost and one new, and a reference."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.arange(n) * 4.0 for n in (60, 40, 110)), indexing="ij")
    body = np.where(((x - 120) / 105) ** 2 + ((y - 80) / 65) ** 2 <= 1, 1.0, 0.0)
    places = [(60 + 60 * i, 55 + 50 * j, 45 + 90 * k) for i in range(3) for j in range(2) for k in range(4)]
    spots = [(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= 12**2 for a, b, c in places]
    true = np.select(spots, rng.uniform(8, 16, len(spots)), body)
    reference = PETSeries(suv=true, affine=np.diag([4.0, 4, 4, 1]), header=PETHeader(units="BQML"))
    lost, new = true.copy(), true.copy()
    lost[spots[3]], new[spots[7]] = 1.0, 1.0
    before = reference.with_suv(new * rng.normal(1, 0.2, true.shape), note="Noise.")
    after = before.with_suv(gaussian_filter_mm(lost, fwhm=6.0, voxel_size=(4, 4, 4)), note="Smoothed.")
    voxel_size: dict[str, Any] = {"voxel_size": (4, 4, 4)}
    regions = regions_in_either(before.suv, after.suv, **voxel_size)
    lesions = lesion_table(before.suv, after.suv, regions, affine=before.affine, **voxel_size)
    images = {"before": before.suv, "after": after.suv, "reference": reference.suv}
    own = {name: regions_in_either(image, image, **voxel_size) for name, image in images.items()}
    matches = matches_of_images(images, own, affine=before.affine, common=regions, **voxel_size)
    assert matches["match"].value_counts().to_dict() == {"kept": 22 + 23 + 23, "lost": 3, "new": 1}
    lesions = lesions.join(region_contrast(images, regions, body=body > 0, **voxel_size))
    shown: dict[str, Any] = {"before": before, "after": after, "regions": regions, "lesions": lesions}
    more: dict[str, Any] = {"reference": reference, "run": {"Method": "Gaussian"}, "warnings": ["A warning."]}
    more |= {"matches": matches, "turning": True}
    return {
        "report": write_report(folder / "report.html", title="sub-01", **shown, **more),
        "viewer": write_viewer(folder / "viewer.html", title="sub-01", **shown),
        "cohort": write_cohort(folder / "cohort.html", table_of()),
    }


@pytest.fixture
def browse(tmp_path):
    """Run Chromium on a page and return what it prints."""

    def run(page: Path, *options: str, width: int = 1300, height: int = 1200) -> str:
        graphics = ("--enable-unsafe-swiftshader", "--use-angle=swiftshader")
        alone = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}")
        size = (f"--window-size={width},{height}", "--virtual-time-budget=8000")
        command = [BROWSER, *alone, *graphics, *size, *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout

    return run


@pytest.fixture
def ask(browse, tmp_path):
    """Return what a script, added to the end of a page, gives to ``answer``."""

    def run(page: str, script: str, *options: str, **size: int) -> Any:
        head, _, tail = page.rpartition("</body>")
        give = "const answer = it => document.documentElement.setAttribute('data-answer', JSON.stringify(it));"
        asked = tmp_path / "asked.html"
        asked.write_text(f"{head}<script>{give}{script}</script></body>{tail}", encoding="utf-8")
        found = re.search(r'<html[^>]*data-answer="([^"]*)"', browse(asked, "--dump-dom", *options, **size))
        assert found, "the script gave no answer"
        return json.loads(html.unescape(found[1]))

    return run


@pytest.mark.parametrize(("width", "options"), [(1300, ()), (500, (DARK,))], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["report", "viewer", "cohort"])
def test_axe_finds_no_violation(pages, ask, name, width, options):
    package = find_spec("axe_core_python")
    if package is None or not package.submodule_search_locations:
        pytest.skip("not installed: axe-core-python")
    axe = Path(package.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")
    script = """;addEventListener("load", async () => answer({
        dark: matchMedia("(prefers-color-scheme: dark)").matches,
        violations: (await axe.run()).violations.map(
            rule => [rule.id, rule.nodes.map(node => node.html.slice(0, 99))]),
    }));"""
    found = ask(pages[name].read_text(encoding="utf-8"), axe + script, *options, width=width)
    assert found == {"dark": bool(options), "violations": []}


@pytest.mark.parametrize(("name", "width"), [("report", 390), ("report", 1300), ("viewer", 390), ("cohort", 390)])
def test_nothing_is_wider_than_the_screen(pages, ask, name, width):
    """In a frame, because a window of Chromium is at least 500 pixels wide."""
    page = html.escape(pages[name].read_text(encoding="utf-8"))
    style = f"width: {width}px; height: 900px; border: 0"
    frame = f'<html><body><iframe srcdoc="{page}" style="{style}"></iframe></body></html>'
    script = """addEventListener("load", () => {
        const inside = document.querySelector("iframe").contentWindow;
        answer([inside.innerWidth, inside.document.documentElement.scrollWidth]);
    });"""
    assert ask(frame, script, width=1400) == [width, width]


_OVERLAPS = """
    const document_ = inside.document, boxes = [];
    const words = document_.createTreeWalker(document_.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const range = document_.createRange();
        range.selectNodeContents(words.currentNode);
        const text = words.currentNode.textContent.trim();
        if (text) for (const box of range.getClientRects()) boxes.push([text.slice(0, 40), box]);
    }
    for (const image of document_.images) boxes.push([image.alt, image.getBoundingClientRect()]);
    const overlapping = [];
    for (let i = 0; i < boxes.length; i++) for (let k = i + 1; k < boxes.length; k++) {
        const [a, b] = [boxes[i][1], boxes[k][1]];
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && tall > 4) overlapping.push([boxes[i][0], boxes[k][0]]);
    }
"""


@pytest.mark.parametrize("width", [390, 1300])
def test_nothing_overlaps_and_all_lesions_can_be_seen(pages, ask, width):
    """No text lies on another or on a picture, and every picture of a lesion is shown at a width that can be read."""
    page = html.escape(pages["report"].read_text(encoding="utf-8"))
    style = f"width: {width}px; height: 900px; border: 0"
    frame = f'<html><body><iframe srcdoc="{page}" style="{style}"></iframe></body></html>'
    script = f"""addEventListener("load", () => {{
        const inside = document.querySelector("iframe").contentWindow;
        {_OVERLAPS}
        const lesions = [...document_.querySelectorAll(".cards img")].filter(one => one.alt.startsWith("Axial"));
        answer({{
            overlapping: overlapping.slice(0, 9),
            n_boxes: boxes.length,
            broken: [...document_.images].filter(one => !one.naturalWidth).length,
            widths: lesions.map(one => Math.round(one.getBoundingClientRect().width)),
        }});
    }});"""
    found = ask(frame, script, width=1400)
    assert found["overlapping"] == []
    assert found["n_boxes"] > 300
    assert found["broken"] == 0
    assert len(found["widths"]) == 20
    assert min(found["widths"]) >= 340


def test_twenty_lesions_with_everything_stay_below_8_mb(pages):
    assert pages["report"].stat().st_size < 8e6


@pytest.mark.parametrize(("options", "background"), [((), 255), ((DARK,), 0x14)], ids=["light", "dark"])
def test_figures_keep_a_white_ground_in_the_dark(pages, browse, tmp_path, options, background):
    picture = tmp_path / "page.png"
    browse(pages["report"], f"--screenshot={picture}", *options, width=390, height=3000)
    pixels = np.round(255 * imread(picture)[..., :3])
    assert pixels.shape[:2] == (3000, 390)
    assert pixels[2, 2, 0] == background
    white = (pixels == 255).all(axis=-1).mean()
    assert white > 0.15


def test_it_is_printed_to_pdf(pages, browse, tmp_path):
    browse(pages["report"], f"--print-to-pdf={tmp_path / 'report.pdf'}")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_viewer_links_its_cross_hairs_in_radiological_orientation(pages, ask):
    """A click in one image moves both; one further left is further to the patient's right; the text has both SUV."""
    script = """
    const ready = setInterval(() => {
        if (!document.documentElement.dataset.ready) return;
        clearInterval(ready);
        control("view").value = "0";
        control("view").onchange({target: control("view")});
        const canvas = control("before");
        canvas.focus();
        const place = () => viewers.map(one => Array.from(one.frac2mm(one.scene.crosshairPos)).slice(0, 3));
        const click = x => {
            const box = canvas.getBoundingClientRect();
            const where = {bubbles: true, clientX: box.left + x * box.width, clientY: box.top + box.height / 2};
            canvas.dispatchEvent(new MouseEvent("mousedown", {...where, button: 0, buttons: 1}));
            canvas.dispatchEvent(new MouseEvent("mouseup", where));
            return place();
        };
        const left = click(0.4), right = click(0.6);
        control("outlines").checked = false;
        control("outlines").onchange();
        control("region").value = "2";
        control("region").onchange({target: control("region")});
        const regions = viewers.map(one => one.volumes[1].opacity);
        answer({left, right, regions, text: control("values").textContent, problem: control("problem").hidden});
    }, 100);"""
    found = ask(pages["viewer"].read_text(encoding="utf-8"), script)
    assert found["problem"]
    for before, after in (found["left"], found["right"]):
        assert before == pytest.approx(after, abs=0.01)
    assert found["left"][0][0] > found["right"][0][0] + 10
    assert found["regions"] == [0, 0]
    assert re.fullmatch(r"x, y, z .* mm: Before \d+\.\d\d, After \d+\.\d\d g/mL", found["text"])
