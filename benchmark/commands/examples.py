"""Two examples of each command, which its ``--help`` shows."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, str]] = {
    "run": (
        "nucbench run dist kumar --evaluate kumar tnbc.all consep",
        "nucbench run hover-lite masks --protocol strict --start-from default --max-minutes 60",
    ),
    "sweep": (
        "nucbench sweep generalisation.yaml --dry-run",
        "nucbench sweep segmentation.yaml --executor slurm --slurm.partition gpu --slurm.gpus 1",
    ),
    "search": (
        "nucbench search dist-search.yaml --dry-run",
        "nucbench search mine.yaml --wandb off",
    ),
    "predict": (
        "nucbench predict default image.png",
        "nucbench predict runs/dist/kumar/paper-s0-1234abcd 'slides/*.svs' --mpp 0.25 --gzip --out nuclei",
    ),
    "look": (
        "nucbench look image.png --mpp 0.25",
        "nucbench look image.png predictions/image.geojson --window 200 200 300 300 --zoom 3 --out detail.png",
    ),
    "score": (
        "nucbench score --truth labels --predictions mine",
        "nucbench score --truth labels --predictions mine --out scores.csv --radius 6",
    ),
    "evaluate": (
        'nucbench evaluate --predictions mine --dataset kumar --method "My method"',
        'nucbench evaluate --predictions qupath --dataset consep --method "Mine" --types tumour=epithelial stroma=',
    ),
    "export": (
        "nucbench export runs/dist/kumar/paper-s0-1234abcd --to my-model --archive",
        "nucbench export default --to zoo --format bioimageio --archive",
    ),
    "adopt": (
        "nucbench adopt hovernet hovernet_original_kumar_notype_tf2pytorch.tar --trained-on kumar --evaluate kumar",
        "nucbench adopt dist mine.ckpt --trained-on kumar --protocol strict",
    ),
    "models": (
        "nucbench models",
        "nucbench models ours --index https://example.org/models/index.yaml",
    ),
    "leaderboard": (
        "nucbench leaderboard",
        "nucbench leaderboard kumar_test generalisation --out tables",
    ),
    "plot": (
        "nucbench plot",
        "nucbench plot maps --run runs/dist/kumar/paper-s0-1234abcd --out pictures",
    ),
    "report": (
        "nucbench report",
        "nucbench report --runs runs --data data --out report",
    ),
    "publish": (
        "nucbench publish runs/dist/kumar/paper-s0-1234abcd",
        "nucbench publish runs/dist/kumar/paper-s0-1234abcd --store scores",
    ),
    "list": (
        "nucbench list methods",
        "nucbench list methods dist --verbose",
    ),
    "prepare": (
        "nucbench prepare tnbc",
        "nucbench prepare kumar --from kumar.zip",
    ),
    "tiles": (
        "nucbench tiles slide.svs --out data/tiles",
        "nucbench tiles slide.svs --out data/tiles --target reference.png --per-slide 5000",
    ),
    "speed": (
        "nucbench speed --sizes 1000 4000",
        "nucbench speed hovernet dist --train",
    ),
    "demo": (
        "nucbench demo",
        "nucbench demo --steps 50 --out try",
    ),
    "doctor": (
        "nucbench doctor",
        "nucbench doctor --json --no-self-test",
    ),
}
"""Command -> how it is used."""
