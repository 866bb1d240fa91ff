"""Draw the concepts that an erasure should keep, oftener than Table 3 does, and with other seeds.

    python tools/keeping.py RUN... [--seeds 6] [--out data/results/three_seeds/keeping.csv]

RUN is the output folder of an erasure, such as runs/table3/EraseAnything/cat/0; several of one concept are held
against the same pictures of the untouched model. Table 3 shows 99 pictures of other concepts for each erased one,
and all training seeds share them, so that one unlucky draw looks like a miss three times.
"""
import argparse
import csv
import json
from pathlib import Path

from eraseanything.benchmark import code_version, fingerprint
from eraseanything.bilevel import load_erasure, versions, whole
from eraseanything.flux import EMBEDDED, load_pipeline, sample
from eraseanything.metrics import Judge, answer_all, interval, kept_share, questions, seen_names

FIRST_SEED = 6_000_000  # apart from those of training and of the other scores
COLUMNS = ["concept", "seed", "metric", "value", "low", "high", "count"]


def answers(pipe, judge: Judge, asked: list) -> list:
    "What the judge says of the pictures."
    prompts, seeds = [question.prompt for question in asked], [question.seed for question in asked]
    return answer_all(judge, sample(pipe, prompts, seeds, batch_size=32), asked)


def share(hits: list[bool]) -> dict:
    "A fraction with its interval."
    low, high = interval(hits)
    return {"value": sum(hits) / len(hits), "low": low, "high": high, "count": len(hits)}


def rows_of(run: Path, judge: Judge, seeds: int, base: dict) -> list[dict]:
    "The rows of one erasure; `base` remembers the untouched model's answers by concept."
    pipe = load_pipeline()
    erasure = load_erasure(pipe, run)
    asked = [question for question in questions(erasure.concept, seeds=seeds, wordings=1, first_seed=FIRST_SEED)
             if question.group == "irrelevant"]
    name, seed, seen = erasure.concept.name, erasure.config.seed, seen_names(erasure.concept, erasure.config)
    if name not in base:
        base[name] = answers(load_pipeline(), judge, asked)
    before, after = base[name], answers(pipe, judge, asked)
    groups = [question.answer for question in asked]
    value, low, high = kept_share([a.hit for a in after], [a.hit for a in before], groups)
    rows = [{"metric": "kept_ir", "value": value, "low": low, "high": high, "count": len(asked)}]
    unseen = [place for place, group in enumerate(groups) if group not in seen]
    rows += [{"metric": f"{which}_unseen", **share([found[place].hit for place in unseen])}
             for which, found in (("base", before), ("acc", after))]
    return [{"concept": name, "seed": seed, **row} for row in rows]


def main() -> None:
    "Draw, count, write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="output folders of erasures")
    parser.add_argument("--seeds", type=int, default=6, help="pictures of each concept and wording")
    parser.add_argument("--out", type=Path, default=Path("data/results/three_seeds/keeping.csv"))
    told = parser.parse_args()
    judge, base, rows, code = Judge.load(), {}, [], code_version()
    for run in told.runs:
        rows += rows_of(run, judge, told.seeds, base)
    with whole(told.out) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **{name: round(row[name], 4) for name in ("value", "low", "high")}} for row in rows)
    made = [json.loads((run / "run.json").read_text())["code"] for run in told.runs if (run / "run.json").is_file()]
    about = {"command": f"python tools/keeping.py RUN... --seeds {told.seeds}", **code, "versions": versions(),
             "model": EMBEDDED, "weights": fingerprint(EMBEDDED), "first_seed": FIRST_SEED, "erased_by": made}
    with whole(told.out.with_suffix(".json")) as path:
        path.write_text(json.dumps(about, indent=1) + "\n")
    print(told.out.read_text())


if __name__ == "__main__":
    main()
