from __future__ import annotations

import json
from typing import Any

import pytest

from leaderboards.report.slugs import slug


def test_figures_are_those_of_the_table(pages: Any, material: Any) -> None:
    frame = material.frame("segmentation")
    for dataset, grid in (("Kumar", "kumar"), ("CoNSeP", "consep")):
        rows = pages["tables/segmentation.html"].grids()[grid].lines()
        here = frame[frame["dataset"] == dataset]
        ours = here[here["ours"].notna()]
        assert len([row for row in rows if row["protocol"].text != "–"]) == len(ours.groupby(["method", "protocol"]))
        for (method, protocol), part in ours.groupby(["method", "protocol"]):
            (row,) = (r for r in rows if (r["Method"].own_text, r["protocol"].text) == (method, protocol))
            for line in part.itertuples():
                assert row[f"{line.metric} ours"].value == pytest.approx(line.ours, rel=1e-8)
                assert row[f"{line.metric} ours"].own_text == f"{line.ours:.3f}"
                if line.deviation == line.deviation:
                    assert f"± {line.deviation:.3f}" in row[f"{line.metric} ours"].text
                if f"{line.metric} published" not in row:
                    assert here.loc[here["metric"] == line.metric, "published"].isna().all()
                    continue
                assert row[f"{line.metric} published"].value == pytest.approx(line.published, nan_ok=True)
                assert row[f"{line.metric} Δ"].value == pytest.approx(line.ours - line.published, nan_ok=True)
        printed = set(here.loc[here["published"].notna(), "method"])
        assert printed <= {row["Method"].own_text for row in rows}


def test_how_ours_was_made_stands_beside_it(pages: Any, material: Any) -> None:
    rows = pages["tables/segmentation.html"].grids()["kumar"].lines()
    (unet,) = (r for r in rows if r["Method"].own_text == "U-Net" and r["protocol"].text == "paper")
    about = {key.removeprefix("How ours was made "): cell.own_text for key, cell in unet.items()}
    assert about["images"] == "4 of 14"
    assert about["trained on"] == "kumar.train"
    assert (about["steps"], about["minutes"], about["weights"]) == ("200", "1.5", "none")
    assert about["hardware"] == "1 CPU core, 32"
    assert about["settings"] == "features=16"
    assert "200 steps, 1.5 min, no weights" in unet["Method"].text
    links = [a.attributes["href"] for a in unet["How ours was made runs"].every("a")]
    ids = sorted(set(material.scores().query("method == 'unet' and protocol == 'paper'")["run_id"]))
    assert links == [f"../runs/{slug(run)}.html" for run in ids]
    (fiji,) = (r for r in rows if r["Method"].own_text == "Fiji")
    assert "nothing trained here" in fiji["Method"].text


def test_published_figures_stand_under_each_protocol(pages: Any) -> None:
    table = pages["tables/segmentation.html"].grids()["kumar"]
    assert json.loads(table.attributes["data-protocols"]) == ["paper", "strict"]
    only = [row for row in table.every("tr") if row.attributes.get("data-only")]
    assert all("hidden" in row.attributes and row.attributes["data-only"] == "strict" for row in only)
    assert [next(row.every("th")).own_text for row in only] == ["DIST"]
    assert [row.own_text for row in only[0].every("td")][1] == "0.789"
    names = [next(row.every("th")).own_text for row in table.every("tr") if "data-protocol" in row.attributes]
    assert names.count("U-Net") == 2


def test_differences_say_which_way_is_better(pages: Any) -> None:
    rows = {r["Method"].own_text: r for r in pages["tables/self_supervised.html"].grids()["monuseg-test"].lines()}
    better, worse = rows["M_-WSI"]["AHD Δ"], rows["CNN2"]["AHD Δ"]
    assert better.value == pytest.approx(7 - 8.2853)
    assert better.own_text == "−1.285"
    assert "better" in better.attributes["class"].split()
    assert "▲" in better.text
    assert "(better)" in better.text
    assert worse.value == pytest.approx(9 - 8.6924)
    assert worse.own_text == "+0.308"
    assert "worse" in worse.attributes["class"].split()
    assert "▼" in worse.text
    head = pages["tables/self_supervised.html"].grids()["monuseg-test"].every("th")
    ways = {cell.own_text.strip(): cell.text for cell in head if cell.attributes.get("scope") == "colgroup"}
    assert "less is better" in ways["AHD"]
    assert "more is better" in ways["AJI"]


def test_scores_of_images_are_those_of_the_store(pages: Any, material: Any) -> None:
    scores = material.scores()
    part = scores[(scores["dataset"] == "kumar") & (scores["variant"] == "x")]
    page = pages[f"evaluations/{slug(f'{part.iloc[0].run_id}/kumar.test/x')}.html"]
    rows = {row["Image"].own_text: row for row in page.grids()["images"].lines()}
    assert set(rows) == set(part["image"])
    for line in part.itertuples():
        for column, name in (("DICE", "dice"), ("AJI", "aji"), ("PQ", "pq"), ("annotated", "n_true")):
            assert rows[line.image][column].value == pytest.approx(getattr(line, name))
    (foot,) = page.grids()["images"].every("tfoot")
    means = next(foot.every("tr"))
    at = page.grids()["images"].columns().index("AJI")
    assert [c for c in means.every() if c.tag in ("td", "th")][at].value == pytest.approx(part["aji"].mean())


def test_statistics_and_tests_have_pages_of_their_own(pages: Any, material: Any) -> None:
    frame = material.frame("statistics").query("dataset == 'Kumar' and metric == 'AJI' and protocol == 'paper'")
    rows = pages["tables/statistics.html"].grids()["kumar"].lines()
    for line in frame.itertuples():
        (row,) = (r for r in rows if (r["Method"].own_text, r["protocol"].text) == (line.method, "paper"))
        assert row["AJI mean"].value == pytest.approx(line.mean)
        interval = f"{line.low:.3f} to {line.high:.3f}" if line.n > 1 else ""
        assert row["AJI 95 % interval"].text == interval
    tests = material.frame("significance").query("dataset == 'Kumar' and metric == 'AJI' and protocol == 'paper'")
    table = pages["tables/significance.html"].grids()["kumar--aji--protocol-paper"]
    labels = list(dict.fromkeys([*tests["method"], *tests["against"]]))
    for row, label in zip(table.lines(), labels, strict=True):
        for k, other in enumerate(labels, 1):
            wanted = tests[(tests["method"] == label) & (tests["against"] == other)]["p_holm"]
            assert row[f"{k}"].value == pytest.approx(wanted.iloc[0]) if len(wanted) else not row[f"{k}"].text
