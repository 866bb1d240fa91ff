"""Kill training, checkpointing, a sweep and a study at random, a hundred times and more; chapter 13 shows the result.

    python tools/kill_trial.py [--kills 30] [--seed 0] [--out data/results]

`--kills` is the number of kills of each of the four kinds, at least. Takes some minutes on one processor.
"""
import argparse
import csv
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from eraseanything.benchmark import code_version, cores
from eraseanything.bilevel import EraseConfig, build_bank, config_to_dict, versions
from eraseanything.concepts import find_concept
from eraseanything.files import whole
from eraseanything.flux import load_pipeline
from eraseanything.trust import kill_study, kill_sweep, kill_table, kill_training, kill_writing

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["kind", "trial", "seconds", "found", "outcome"]
SMALL = EraseConfig(steps=6, batch_size=1, trajectories=2, trajectory_steps=2, preserve_prompts=2, rsc_points=2)


def trials(kills: int, seed: int, place: Path) -> list[dict]:
    "All four kinds, one after the other, in an empty folder."
    pipe, concept, chance = load_pipeline(), find_concept("cat"), random.Random(seed)
    bank = build_bank(pipe, concept, SMALL, progress=False)
    rows, common = [], (pipe, concept, SMALL, bank)
    kinds = {"training": lambda folder, few: kill_training(*common, folder, few, chance),
             "checkpointing": lambda folder, few: kill_writing(*common, folder, few, chance),
             "sweep": lambda folder, few: kill_sweep(folder, few, chance),
             "study": lambda folder, few: kill_study(folder, few, chance)}
    for kind, trial in kinds.items():
        found, part = [], 0
        while len(found) < kills:  # a kill may come after the end of what it should have struck
            folder = place / f"{kind}{part}"
            folder.mkdir()
            found += trial(folder, max(1, (kills - len(found)) // 2))
            part += 1
            print(f"{kind}: {len(found)} of {kills}", flush=True)
        rows += found
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each kind, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results")
    asked, started, code = parser.parse_args(), time.monotonic(), code_version()
    with tempfile.TemporaryDirectory() as folder:
        rows = trials(asked.kills, asked.seed, Path(folder))
    print(kill_table(rows))
    command = f"python tools/kill_trial.py --kills {asked.kills} --seed {asked.seed}"
    about = {"command": command, **code, "versions": versions(), "cores": cores(),
             "settings": config_to_dict(SMALL), "seconds": round(time.monotonic() - started)}
    asked.out.mkdir(parents=True, exist_ok=True)
    with whole(asked.out / "trust.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "seconds": f"{row['seconds']:.3f}"} for row in rows)
    with whole(asked.out / "trust.json") as path:
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 1 if any("LOST" in row["outcome"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
