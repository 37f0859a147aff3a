from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from benchmark.commands.cli import main
from benchmark.registry import TABLES, dataset_class, table_class
from leaderboards.report.folder import MARKER, report_files
from leaderboards.report.overlays import IMAGES
from leaderboards.report.slugs import slug

LOADED = {"src", "href", "xlink:href", "poster", "data", "srcset", "action", "background"}


def test_every_table_run_and_evaluation_has_its_page(pages: Any, material: Any) -> None:
    scores = material.scores()
    assert {f"tables/{name}.html" for name in TABLES} <= set(pages)
    assert {f"runs/{slug(run)}.html" for run in scores["run_id"]} <= set(pages)
    each = scores[["run_id", "dataset", "split", "variant"]].drop_duplicates().itertuples(index=False)
    wanted = {f"evaluations/{slug(f'{run}/{dataset}.{split}/{variant}')}.html" for run, dataset, split, variant in each}
    assert wanted == {name for name in pages if name.startswith("evaluations/")}
    assert len(wanted) == 10


def test_links_stay_inside_and_nothing_is_loaded_from_elsewhere(pages: Any, report: Any) -> None:
    folder = report.index.parent
    ids = {
        name: [e.attributes["id"] for e in page.root.every() if "id" in e.attributes] for name, page in pages.items()
    }
    reached = {"index.html"}
    for name, page in pages.items():
        assert len(ids[name]) == len(set(ids[name])), name
        for element in page.root.every():
            for key in LOADED & set(element.attributes):
                link = element.attributes[key]
                if link.startswith("data:"):
                    assert link == "data:,"  # no icon
                    continue
                parts = urlsplit(link)
                assert not parts.scheme, (name, link)
                assert not parts.netloc, (name, link)
                target = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
                target = target.resolve()
                assert target.is_file(), (name, link)
                assert target.is_relative_to(folder.resolve()), (name, link)
                at = target.relative_to(folder.resolve()).as_posix()
                reached.add(at)
                if parts.fragment:
                    assert unquote(parts.fragment) in ids[at], (name, link)
        for style in page.root.every("style"):
            assert "url(" not in style.text
            assert "@import" not in style.text
        for script in page.root.every("script"):
            assert not script.attributes
            assert not re.search(r"fetch|XMLHttp|import\(|https?:|innerHTML|eval|document\.write", script.text)
    assert reached | {MARKER} == set(report_files(folder)) | {MARKER}, "a file that no page leads to"


def test_drawings_load_nothing(report: Any) -> None:
    for path in report.index.parent.rglob("*.svg"):
        for element in ET.fromstring(path.read_text(encoding="utf-8")).iter():
            assert not str(element.tag).endswith(("script", "foreignObject"))
            for key, link in element.attrib.items():
                if key.rsplit("}", 1)[-1] == "href":
                    assert link.startswith(("#", "data:image/png;base64,")), path
                assert "url(" not in link or "url(#" in link, path


def test_pages_are_accessible(pages: Any) -> None:
    for name, page in pages.items():
        (html,) = page.root.every("html")
        assert html.attributes["lang"] == "en"
        assert len(list(page.root.every("h1"))) == 1, name
        assert any(m.attributes.get("name") == "viewport" for m in page.root.every("meta"))
        assert all("alt" in image.attributes for image in page.root.every("img"))
        assert not list(page.root.every("button")), "controls that need the script are made by it"
        for table in page.root.every("table"):
            assert next(table.every("caption")).text.strip()
            assert all(
                cell.attributes["scope"] in ("col", "colgroup") for cell in next(table.every("thead")).every("th")
            )
            for part in (*table.every("tbody"), *table.every("tfoot")):
                for row in part.every("tr"):
                    assert [cell.attributes["scope"] for cell in row.every("th")] == ["row"]
        for figure in page.root.every("svg"):
            assert figure.attributes.get("role") == "img" or figure.attributes.get("aria-hidden") == "true"


def test_hostile_texts_are_shown_as_they_are(pages: Any, hostile: dict[str, str]) -> None:
    shown = Counter()
    for name, page in pages.items():
        for element in page.root.every():
            assert not any(key.startswith("on") for key in element.attributes), name
            assert element.attributes.get("id") != "injected"
            assert element.tag != "b" or element.text == "Bold"
            assert element.tag not in ("u", "iframe", "object", "embed")
        assert len(list(page.root.every("script"))) == 1
        text = page.root.text
        for key, each in hostile.items():
            shown[key] += each in text
    assert min(shown[key] for key in hostile) >= 2
    assert "49" not in {e.text for e in pages["evaluations.html"].root.every("a")}


def test_a_run_page_shows_what_the_run_was(pages: Any, material: Any) -> None:
    run = "unet/kumar.train/paper-s0-aaaaaaaa"
    page = pages[f"runs/{slug(run)}.html"]
    shown = {e.children[0].text: e.children[1].text for e in page.root.every("div") if len(e.children) == 2
             and all(getattr(c, 'tag', '') in ("dt", "dd") for c in e.children)}  # fmt: skip
    assert shown["sha256"] == "6d" * 32
    assert shown["nuclei"] == "9907"
    assert shown["options.features"] == "16"
    assert shown["versions.torch"] == "2.15.0"
    assert shown["hardware"]
    charts = [f for f in page.root.every("figure") if f.attributes.get("class") == "chart"]
    assert [next(c.every("figcaption")).text for c in charts] == ["loss", "border"]
    lines_ = list(charts[0].every("polyline"))
    assert [len(line.attributes["points"].split()) for line in lines_] == [6, 3, 3]  # each step, epochs, validation
    record = next(pre.text for pre in page.root.every("pre") if '"run_id"' in pre.text)
    assert json.loads(record) == json.loads((material.runs / run / "record.json").read_text())
    texts = {name: p.root.text for name, p in pages.items() if name.startswith("runs/")}
    assert "published without logs" in texts[f"runs/{slug('cnn2/monuseg.train/paper-s0-dddddddd')}.html"]
    assert "This method is not trained" in texts[f"runs/{slug('fiji/none/paper-s0-eeeeeeee')}.html"]


def test_overlays_show_the_nuclei(pages: Any, report: Any, material: Any) -> None:
    folder = report.index.parent
    page = pages[f"evaluations/{slug('hovernet/consep.train/paper-s0-cccccccc/consep.test/hovernet')}.html"]
    viewers = [e for e in page.root.every("div") if e.attributes.get("class") == "viewer"]
    module = dataset_class("consep")(material.data / "consep")
    records = {record.image_id: record for record in module.select("test")}
    assert 1 <= len(viewers) <= IMAGES
    for viewer, article in zip(viewers, page.root.every("article"), strict=True):
        layers = [f for f in viewer.every("figure") if f.attributes.get("class") == "layer"]
        assert [f.attributes["data-name"] for f in layers] == ["Image", "Annotation", "Prediction"]
        image = next(name for name in records if article.text.strip().startswith(name))
        truth = module.read(records[image]).truth
        counts = [int(next(f.every("small")).text.split()[0]) for f in layers[1:]]
        assert counts == [truth.count, max(truth.count - 2, 0)]
        picture, drawing = (i.attributes["src"] for i in layers[2].every("img"))
        with Image.open(folder / "evaluations" / picture) as opened:
            assert (opened.format, opened.size) == ("WEBP", (96, 96))
        text = (folder / "evaluations" / drawing).read_text()
        assert sum(path.count("M") for path in re.findall(r' d="([^"]*)"', text)) == counts[1]
        named = {item.text.split()[0] for item in article.every("li")}
        assert truth.types is not None
        assert {module.card.types[k - 1].split()[0] for k in set(truth.types.tolist())} <= named


def test_what_is_missing_is_said(report: Any, pages: Any) -> None:
    text = "\n".join(report.left_out)
    assert "runs: unet/kumar.train/paper-s9-ffffffff: not finished" in text
    assert "overlays: CNN2 on monuseg.test (cnn2/monuseg.train/paper-s0-dddddddd): no predictions" in text
    for line in report.left_out:
        assert line.split(": ", 1)[1] in pages["index.html"].root.text
    assert str(report.index.parent.parent) not in pages["index.html"].root.text


@pytest.mark.slow
def test_equal_results_give_equal_bytes(report: Any, material: Any, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    again = type(material)(material.runs, material.published, material.data).build(tmp_path / "again")
    first, second = report.index.parent, again.index.parent
    assert report_files(first) == report_files(second)
    for name in [*report_files(first), MARKER]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert json.loads((first / MARKER).read_text())["files"] == report_files(first)


def test_the_command_says_what_is_missing_and_leaves_out_broken_scores(
    tmp_path: Path, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = tmp_path / "store", tmp_path / "deep" / "report"
    folder = made.evaluation(made.run(store, "paper-s0-aaaaaaaa"), "kumar.test", made.scores(["a"]))
    command = ["report", "--runs", str(store), "--store", str(tmp_path / "none"), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out / "index.html")
    assert any(line.startswith("left out of overlays: U-Net on kumar.test") for line in printed)
    before = {name: (out / name).read_bytes() for name in report_files(out)}
    (folder / "scores.csv").write_text((folder / "scores.csv").read_text() + "b,oops\n")
    assert main(command) == 1
    assert "scores.csv" in capsys.readouterr().err
    broken = (out / "index.html").read_text()
    assert "segmentation" in broken  # the report is made without the broken scores
    assert not [name for name in report_files(out) if "kumar.test" in str(name) and str(name).endswith(".csv")]
    assert set(report_files(out)) <= set(before)
    assert [path.name for path in out.parent.iterdir()] == ["report"]
    (out / "my notes.txt").write_text("precious")
    assert main(command) == 2
    assert "my notes.txt" in capsys.readouterr().err
    assert (out / "my notes.txt").read_text() == "precious"


def test_an_empty_store_gives_a_report_of_published_figures(tmp_path: Path, parse: Any) -> None:
    assert main(["report", "--runs", str(tmp_path), "--store", str(tmp_path), "--out", str(tmp_path / "r")]) == 0
    index = parse(tmp_path / "r" / "index.html")
    assert "Nothing has been run yet" in index.root.text
    rows = parse(tmp_path / "r/tables/segmentation.html").grids()["kumar"].lines()
    assert next(r for r in rows if r["Method"].own_text == "U-Net")["AJI published"].value == 0.556


def test_building_needs_no_torch_without_images() -> None:
    code = "import sys, leaderboards.report.build; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_title_of_the_registry_is_in_the_menu(pages: Any) -> None:
    menu = {a.text for a in next(pages["index.html"].root.every("ul")).every("a")}
    assert menu == {table_class(name).title for name in TABLES}
