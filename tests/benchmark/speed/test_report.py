from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

from benchmark.speed.report import file_name, print_report, run_speed, to_frame
from benchmark.speed.timing import Timing
from postproc.errors import ConfigError

OURS = Timing("job", "1000 px", 700, 6.0, 5.0, 7.0, 5, 1, to_reach_ms=5.0)
THEIRS = Timing("job: x", "1000 px", 700, 60.0, 5.0, 7.0, 5, 1, by="other 1.0", nucbench_ms=6.0, agreement=0.0)
DRAWN = Timing("training sample, none", "256 px", 700, 10.0, 5.0, 7.0, 5, 1, samples_per_second=100.0)


def test_ratios_to_what_was_to_be_reached_and_of_others() -> None:
    frame = to_frame([OURS, THEIRS, DRAWN])
    assert frame["of_to_reach"].iloc[0] == pytest.approx(1.2)
    assert frame["times_nucbench"].iloc[1] == pytest.approx(10)
    assert frame["times_nucbench"].isna().tolist() == [True, False, True]


def test_the_file_is_named_by_hardware_precision_and_versions() -> None:
    name = file_name("components", "32-true")
    assert name.startswith("components_")
    assert "_32-true_" in name
    assert f"torch-{version('torch')}".lower().replace("+", "-") in name
    assert f"numba-{version('numba')}" in name
    assert name.endswith(".csv")
    assert not set(name) & set(" /:+")


def test_each_table_prints_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(to_frame([OURS, THEIRS, DRAWN]))
    text = capsys.readouterr().out
    assert "1.200" in text
    assert "other 1.0" in text
    assert "100.000" in text
    print_report(to_frame([OURS]))
    assert "other" not in capsys.readouterr().out


@pytest.mark.parametrize(("sides", "repeats", "message"), [([0], 1, "--sizes is 0"), ([100], 0, "--repeats is 0")])
def test_wrong_use_is_refused_before_anything_runs(
    sides: list[int], repeats: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_speed(["hovernet"], {}, sides, repeats, "auto", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_training_throughput_is_reported(tmp_path: Path) -> None:
    path = run_speed(["dist"], {"features": 4}, [96], 1, "32-true", tmp_path, train=True)
    frame = pd.read_csv(path)
    assert [job.split(": ")[1] for job in frame["job"]] == ["network", "post-processing", "training step"]
    step = frame.iloc[2]
    batch = int(step["size"].split(" x ")[0])
    assert step["samples_per_second"] == pytest.approx(1000 * batch / step["median_ms"])
