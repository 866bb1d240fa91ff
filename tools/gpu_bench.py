"""Measure erasing on a GPU, with random weights of FLUX.1-dev's shape (chapter 06k): nothing is downloaded.

    python tools/gpu_bench.py                    # FLUX.1-dev, 512 pixels, one item a step
    python tools/gpu_bench.py --tflops 165       # what this card can do at best in bfloat16, for the floor

For each way to hold the model: seconds of a pair of steps, the same for 1,000 pairs, peak memory beside what
`eraseanything plan` foretells, how far above the floor of its arithmetic it is, and how often the processor waits for
the GPU (never, it should be); also with Eqs. 4 and 5 in one forward (`rsc_batch`). Then the same with the allocator
capped at 24 GB and the settings that the plan chooses for that, and what the columns cost in each method. Writes
data/results/gpu_bench.json.
"""
import argparse
import gc
import json
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import torch

from eraseanything.benchmark import code_version
from eraseanything.bilevel import EraseConfig, versions, whole
from eraseanything.planning import RESERVE, choose, parse_memory, plan, shapes_of
from eraseanything.speed import capture_rows, measure_pair

ROOT = Path(__file__).resolve().parent.parent
MODEL = "black-forest-labs/FLUX.1-dev"
CASES = {  # quantize, checkpointing, compile
    "bfloat16": (None, False, False),
    "bfloat16, compiled": (None, False, True),
    "bfloat16, checkpointing": (None, True, False),
    "bfloat16, checkpointing, compiled": (None, True, True),
    "nf4": ("nf4", False, False),
    "nf4, checkpointing": ("nf4", True, False),
    "int8": ("int8", False, False),
    "llm-int8": ("llm-int8", False, False),
}


def measured(shapes, settings: EraseConfig, quantize, checkpointing: bool, compiled: bool, asked) -> dict:
    "One way to hold the model; what went wrong is part of the result."
    gc.collect()
    torch.cuda.empty_cache()
    torch._dynamo.reset()
    config = replace(settings, gradient_checkpointing=checkpointing)
    [need] = [need for need in plan(MODEL, asked.resolution, config, quantize=quantize, offload="model")
              if (need.option.quantize, need.option.gradient_checkpointing) == (quantize, checkpointing)]
    floor = need.pair / (asked.tflops * 1e12)
    told = {"floor_seconds": floor, "operations": need.pair, "planned_gb": (sum(need.memory.values()) - RESERVE) / 2**30}
    try:
        found = measure_pair(shapes, config, quantize, compiled, rounds=asked.rounds)
    except Exception as error:  # out of memory, a library that is not there: the other cases go on
        return told | {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return told | {"seconds_per_pair": found["seconds"], "minutes_per_1000_pairs": found["seconds"] * 1000 / 60,
                   "over_floor": found["seconds"] / floor, "peak_gb": found["peak"] / 2**30, "waits": found["waits"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=1, help="items of each loss")
    parser.add_argument("--tflops", type=float, default=790, help="reachable 10^12 operations a second, for the floor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cap", default="24GB", help="memory of the card to be imitated")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results" / "gpu_bench.json")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_bench: there is no GPU here that PyTorch can use, so nothing was measured.", file=sys.stderr)
        return 2
    shapes, settings, cases = shapes_of(MODEL, asked.resolution), EraseConfig(batch_size=asked.batch_size), []
    for name, way in CASES.items():
        cases.append({"case": name, **measured(shapes, settings, *way, asked)})
        print(cases[-1], flush=True)
    joined = replace(settings, rsc_batch=1)
    cases.append({"case": "bfloat16, two forwards", **measured(shapes, joined, None, False, False, asked)})
    print(cases[-1], flush=True)
    cap, total = parse_memory(asked.cap), torch.cuda.get_device_properties(0).total_memory
    if cap < total:
        option = choose(plan(MODEL, asked.resolution, settings), cap).option
        torch.cuda.set_per_process_memory_fraction(cap / total)
        way = (option.quantize, option.gradient_checkpointing, False)
        cases.append({"case": f"{asked.cap}: {option}", **measured(shapes, settings, *way, asked)})
        torch.cuda.set_per_process_memory_fraction(1.0)
        print(cases[-1], flush=True)
    columns = []
    for method in ("second", "augment", "dense"):
        for text, image in ((256, 1024), (512, 4096)):
            rows = capture_rows(text, image, method, heads=24, rounds=20, device="cuda", dtype=torch.bfloat16)
            columns += [{"method": method, **row} for row in rows]
            print(*columns[-2:], sep="\n", flush=True)
    about = {"command": " ".join(["python", "tools/gpu_bench.py", *sys.argv[1:]]), **code_version(),
             "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "versions": versions(),
             "device": torch.cuda.get_device_name(0), "device_gb": total / 2**30, "cuda": torch.version.cuda,
             "resolution": asked.resolution, "batch_size": asked.batch_size, "tflops": asked.tflops}
    with whole(asked.out) as path:
        path.write_text(json.dumps({**about, "cases": cases, "columns": columns}, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
