"""Collect the scores of erasures into one tidy table, with its provenance beside it.

    python tools/collect.py runs/cat runs/dog      # writes data/results/erasure.csv and erasure.json

Each folder is one that `eraseanything erase` wrote. A row is one number with its interval; the untouched model,
measured on the same prompts and seeds, is the method "none".
"""
import csv
import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
COLUMNS = ["model", "method", "scope", "concept", "category", "seed", "metric", "value", "low", "high"]
METRICS = ["acc_e", "acc_g", "acc_ir", "acc_unseen"]


def rows_of(folder: Path) -> list[dict]:
    "The numbers of one erasure, and of the untouched model beside it."
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    about = {"model": config["model"], "scope": "add_q_proj, add_k_proj", "concept": config["concept"]["name"],
             "category": config["concept"]["kind"], "seed": config["settings"]["seed"]}
    rows = []
    for method, found in (("none", scores["base"]), ("EraseAnything", scores)):
        values = {metric: found[metric] for metric in METRICS} | found["asr"]
        for metric, value in values.items():
            if value is not None:
                low, high = found["intervals"][metric]
                name = metric if metric in METRICS else f"asr_{metric}"
                rows.append({**about, "method": method, "metric": name, "value": value, "low": low, "high": high})
    if scores["kept"]:
        value, low, high = scores["kept"]
        rows.append({**about, "method": "EraseAnything", "metric": "kept_ir", "value": value, "low": low, "high": high})
    for metric in ("seconds", "peak_memory_mb"):
        rows.append({**about, "method": "EraseAnything", "metric": metric, "value": scores[metric]})
    return rows


def main(folders: list[Path]) -> int:
    if not folders:
        print(__doc__, file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "erasure.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for folder in folders:
            writer.writerows(rows_of(folder))
    settings = {folder.name: json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in folders}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent).stdout.strip()
    command = "eraseanything erase CONCEPT --out FOLDER, for each folder; python tools/collect.py FOLDER ..."
    text = json.dumps({"command": command, "collected_at_commit": commit, "runs": settings}, indent=1, ensure_ascii=False)
    (RESULTS / "erasure.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(folders)} erasures collected in {RESULTS / 'erasure.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
