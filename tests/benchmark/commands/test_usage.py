"""Wrong command lines: one or two lines that name the argument, its value, the choices and the nearest name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from benchmark.commands import cli
from benchmark.commands.examples import EXAMPLES
from benchmark.commands.usage import explain, takes
from benchmark.host.machine import Machine
from benchmark.options import option_defaults
from benchmark.registry import METHODS, method_class
from benchmark.results.spec import Overrides, RunSpec
from benchmark.runs.run import check_recipe
from datamodules.synthetic_sets import Synthetic
from models.base.method import Task
from postproc.errors import ConfigError

WRONG = [
    ("", "a command is missing. Choices: run, "),
    ("rnu unet kumar", "unknown command 'rnu'. Did you mean run?"),
    ("--debugg run unet kumar", "nucbench has no option --debugg. Did you mean --debug?"),
    ("run", "nucbench run needs METHOD"),
    ("run unet", "name the dataset to train unet on: nucbench run unet DATASET"),
    ("run unett synthetic", "unknown method 'unett'. Did you mean 'unet'?"),
    ("run unet synthetik", "unknown dataset 'synthetik'. Did you mean 'synthetic'?"),
    ("run unet synthetic extra", "nucbench run does not take 'extra'"),
    ("run unet synthetic --stepz 3", "no option --stepz. Did you mean --steps?"),
    ("run unet synthetic --opt 3", "no option --opt. Did you mean --options?"),
    ("run unet synthetic --steps", "--steps needs a value"),
    ("run unet synthetic --steps 1.5", "--steps is '1.5'; give a whole number"),
    ("run unet synthetic --steps 0", "steps must be a positive number, not 0"),
    ("run unet synthetic --lr fast", "--lr is 'fast'; give a number"),
    ("run unet synthetic --lr 1e400", "lr must be a positive number, not inf"),
    ("run unet synthetic --compile=7", "--compile is a switch and takes no value, not '7'"),
    ("run unet synthetic --protocol strikt", "--protocol is 'strikt'. Did you mean strict? Choices: strict, paper."),
    ("run unet synthetic --schedule cos", "--schedule is 'cos'. Did you mean cosine? Choices: constant, cosine."),
    ("run unet synthetic --augment fliips", "unknown augmentation policy 'fliips'. Did you mean 'flips'?"),
    ("run unet synthetic --options nonsense", "--options is 'nonsense'; give NAME VALUE pairs"),
    ("run unet synthetic --options.featurs 4", "unknown option of unet 'featurs'. Did you mean 'features'?"),
    ("run unet synthetic --options.features four", "option 'features' of unet is 'four'; expected int"),
    ("run unet synthetic --options.features inf", "option 'features' of unet is 'inf'; expected int"),
    (
        "run unet synthetic --options.features 0",
        "option 'features' of unet is 0; give a number from 1 to 1,000,000",
    ),
    ("run unet synthetic --options.weight_decay -1", "option 'weight_decay' of unet is -1.0; give a number from 0 to"),
    ("run unet synthetic --options.dropout nan", "option 'dropout' of unet is nan; give a number from 0 to"),
    ("run unet synthetic --options.features -4", "option 'features' of unet is -4; give a number from 1 to"),
    ("run hovernet synthetic --options.mode fastt", "'fastt'. Did you mean 'fast'? Choices: fast, original."),
    ("run unet synthetic --crop 30", "crop=30: unet does not accept crops of 30 px. Nearest valid sizes: 188 px"),
    ("run unet synthetic --crop 250", "Nearest valid sizes: 236 or 252 px; the recipe has 268 px."),
    ("run unet synthetic --devices 99", "99 devices requested, but this machine has "),
    ("run unet synthetic --devices 0", "devices must be 1 or more, not 0"),
    ("run unet synthetic --workers -1", "workers must be 0 or more, not -1"),
    ("run unet synthetic --evaluate synthetic.tst", "synthetic has no split 'tst'. Choices: "),
    ("run unet synthetic --steps 3 --epochs 4", "give either epochs or steps, not both"),
    ("leaderboard segmentatoin", "unknown table 'segmentatoin'. Did you mean 'segmentation'?"),
    ("plot boxs", "unknown plot 'boxs'. Did you mean 'boxes'?"),
    ("list methodz", "WHAT is 'methodz'. Did you mean methods?"),
    ("speed nomethod", "unknown method 'nomethod'"),
    ("sweep nofile.yaml", "sweep file nofile.yaml not found. Sweeps of nucbench: "),
    ("sweep demo.yaml --executor slrm", "--executor is 'slrm'. Did you mean slurm? Choices: inline, local, slurm."),
    ("sweep demo.yaml --executor local --processes 0", "--processes must be 1 or more, not 0"),
    ("sweep demo.yaml --slurm.partiton gpu", "no option --slurm.partiton. Did you mean --slurm.partition?"),
    ("sweep demo.yaml --executor slurm --slurm.minutes 0", "--slurm.minutes must be 1 or more, not 0"),
    ("sweep demo.yaml --slurm.minutes long", "--slurm.minutes is 'long'; give a whole number"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    Synthetic.write_synthetic(folder / "data/synthetic", size=64)
    return folder


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(("line", "expected"), WRONG, ids=[line or "nothing" for line, _ in WRONG])
def test_wrong_command_lines(
    line: str, expected: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("NUCBENCH_DATA", raising=False)
    monkeypatch.delenv("NUCBENCH_RUNS", raising=False)
    assert cli.main(line.split()) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert errors.startswith("nucbench: error: ")
    assert len(errors.strip().splitlines()) <= 2
    assert "Traceback" not in errors
    assert not (place / "runs").exists(), "nothing is begun"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_misspelt_option_is_put_right(command: str) -> None:
    commands = {name: takes(function) for name, function in cli.COMMANDS.items()}
    flags = [each.name for each in commands[command] if each.name.startswith("--")]
    assert "--help" in flags
    for flag in flags:
        wrong = flag + flag[-1]
        text = explain("refused", [command, wrong, "1"], commands)
        assert text.startswith(f"nucbench {command} has no option {wrong}. Did you mean {flag}? ")


def test_what_is_right_is_not_found_wrong() -> None:
    commands = {name: takes(function) for name, function in cli.COMMANDS.items()}
    for line in (
        "run unet synthetic --steps 3 --lr=1e-3 --options.features -4 --evaluate kumar tnbc.all --no-progress",
        "--debug run unet synthetic --evaluate kumar --protocol strict --precision 32-true",
        "sweep demo.yaml --executor slurm --slurm.minutes 5 --slurm.partition gpu",
        "leaderboard segmentation speed --runs r",
    ):
        assert explain("refused", line.split(), commands) == "refused"
        cli.build_parser().parse_args(line.split())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("unet kumar --options.features 0", "option 'features' of unet is 0"),
        ("unet kumar --options.featurs 4", "unknown option of unet 'featurs'"),
        ("unet kumar --augment fliips", "unknown augmentation policy 'fliips'"),
        ("fiji kumar --steps 5", "fiji trains nothing, so --steps 5 would have no effect"),
    ],
)
def test_a_wrong_setting_is_told_before_missing_data(
    words: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tmp_path / "nowhere"), "--runs", str(tmp_path / "runs")]
    assert cli.main(["run", *words.split(), *folders]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--debug", "run", "unett", "kumar"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in METHODS if method_class(name).card.trained])
def test_every_recipe_has_a_crop_that_the_network_takes(name: str) -> None:
    kind = method_class(name)
    known = option_defaults(kind)
    options = {key: "none" for key in known if key == "weights" or key.endswith("_weights")}
    options |= {key: 8 for key in ("features", "width", "hidden") if isinstance(known.get(key), int)}
    types = ("a", "b", "c") if kind.card.needs == "points" else ()
    method = kind(Task(types, 0.25), **options)
    check_recipe(RunSpec(name, "kumar", overrides=Overrides(crop=method.recipe.crop)), method)
    if method.geometry.multiple > 1:
        with pytest.raises(ConfigError, match="does not accept crops"):
            check_recipe(RunSpec(name, "kumar", overrides=Overrides(crop=method.recipe.crop + 1)), method)


def test_counts_of_a_machine_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers must be 0 or more"):
        Machine(tmp_path, tmp_path, workers=-1)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_examples_of_the_help_are_command_lines(command: str) -> None:
    for example in EXAMPLES[command]:
        program, *words = shlex.split(example)
        assert program == "nucbench"
        assert words[0] == command or (command, words[0]) == ("models", "predict")
        cli.build_parser().parse_args(words)
    assert set(EXAMPLES) == set(cli.COMMANDS)
