"Erase several concepts one after the other with the command line, and gather their scores into data/results."
import argparse
import csv
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTITIES = ["fruit", "ball", "car", "airplane", "tower", "building", "celebrity", "shoes", "cat", "dog"]
COLUMNS = ["model", "method", "scope", "concept", "category", "seed", "metric", "value", "low", "high"]
METRICS = ("acc_e", "acc_g", "acc_ir", "acc_unseen")


def run_one(concept: str, runs: Path, seed: int, more: list[str]) -> dict:
    "Erase one concept unless its folder holds scores already; the scores."
    out = runs / concept.replace(" ", "-")
    if not (out / "scores.json").is_file():
        start = "import sys; from eraseanything.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", start, "erase", concept, "--out", str(out), "--seed", str(seed), *more]
        subprocess.run(command, check=True, cwd=ROOT)
    return json.loads((out / "scores.json").read_text())


def rows(concept: str, category: str, seed: int, scores: dict) -> list[dict]:
    "The scores of one run, before and after, one line a number."
    found = []
    for method, part in (("none", scores["base"]), ("eraseanything", scores)):
        values = {name: part.get(name) for name in METRICS} | {f"asr_{name}": value for name, value in part.get("asr", {}).items()}
        for name, value in values.items():
            low, high = part["intervals"].get(name.removeprefix("asr_"), (None, None))
            line = ("emoji-flux", method, "paper" if method != "none" else "", concept, category, seed, name, value, low, high)
            if value is not None:
                found.append(dict(zip(COLUMNS, line)))
    for name in ("seconds", "peak_memory_mb"):
        line = ("emoji-flux", "eraseanything", "paper", concept, category, seed, name, scores.get(name), None, None)
        found.append(dict(zip(COLUMNS, line)))
    return found


def main() -> None:
    "Run, gather, write the table and its provenance."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("concepts", nargs="*", default=ENTITIES, help="what to erase; the paper's ten entities without it")
    parser.add_argument("--category", default="entity", help="the kind written into the table")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "entities", help="where the output folders go")
    parser.add_argument("--name", default="entities", help="of the table in data/results")
    parser.add_argument("--seed", type=int, default=0)
    known, more = parser.parse_known_args()
    start, table = time.time(), []
    for concept in known.concepts:
        table += rows(concept, known.category, known.seed, run_one(concept, known.runs, known.seed, more))
    results = ROOT / "data" / "results"
    results.mkdir(parents=True, exist_ok=True)
    with open(results / f"{known.name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    config = json.loads((known.runs / known.concepts[0].replace(" ", "-") / "config.json").read_text())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    provenance = {"command": "python tools/erase_many.py " + " ".join(sys.argv[1:]), "commit": commit, "seed": known.seed,
                  "settings": config.get("settings"), "versions": config.get("versions"), "python": platform.python_version(),
                  "wall_seconds": round(time.time() - start, 1)}
    (results / f"{known.name}.json").write_text(json.dumps(provenance, indent=1) + "\n")
    print(f"{len(table)} numbers in data/results/{known.name}.csv")


if __name__ == "__main__":
    main()
