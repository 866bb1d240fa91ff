"""Time four things against what they replace, by turns in one run (chapter 06i), and keep the ratios.

    python tools/bench.py                # some minutes on one core
    python tools/bench.py --quick        # half a minute: shows that it runs, measures little, writes nothing

Writes bench.csv (name, ratio, numerator, denominator, unit) and bench.json (when, where, with what) into data/results.
"""
import argparse
import csv
import json
from datetime import datetime, timezone
from pathlib import Path
import os
import shlex
import sys
import time

import torch

from eraseanything.benchmark import code_version, fingerprint
from eraseanything.bilevel import EraseConfig, config_to_dict, versions, whole
from eraseanything.flux import EMBEDDED, load_pipeline
from eraseanything.speed import bench

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["name", "ratio", "numerator", "denominator", "unit"]


def show(rows: list[dict]) -> None:
    "Print rows as they come."
    for row in rows:
        print(f"{row['name']:36}{row['ratio']:9.3f}   {row['numerator']:.4g} / {row['denominator']:.4g} {row['unit']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shapes, nothing written")
    parser.add_argument("--remark", default="", help="what else is worth knowing of the machine, such as: other work ran")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    load, start = os.getloadavg()[0], time.time()
    rows = bench(load_pipeline(EMBEDDED, device="cpu"), asked.quick, report=show)
    if asked.quick:
        return 0
    remark = ["--remark", shlex.quote(asked.remark)] if asked.remark else []  # where it is written is nobody's business
    about = {"command": " ".join(["python", "tools/bench.py", *remark]),
             "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), **code_version(), "versions": versions(),
             "model": EMBEDDED, "model_digest": fingerprint(EMBEDDED), "device": "cpu", "threads": 1,
             "clock": "processor seconds", "load_average_before": round(load, 1), "seconds": round(time.time() - start),
             "remark": asked.remark, "settings": config_to_dict(EraseConfig())}
    with whole(asked.out / "bench.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with whole(asked.out / "bench.json") as path:
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {asked.out / 'bench.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
