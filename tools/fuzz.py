"""Look for inputs that a reader does not survive, guided by the code that they reach; chapter 13c shows the result.

    pip install atheris
    python tools/fuzz.py [--seconds 600] [--out data/results]

`--seconds` is shared out among the readers. Each runs in a process of its own, because the fuzzer ends its process;
a crash is kept in the result with the input that caused it, and so are the inputs that reached new code, smallest
first, to be read again by the tests on machines without atheris.
"""
import argparse
import base64
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = 40  # inputs of each reader
STARTS = {  # texts to begin with, so that the fuzzer need not find the formats by itself
    "config": '{"concept": {"name": "cat"}, "settings": {"steps": 3}}',
    "log": '{"step": 1, "esd": 0.5}\n{"step": 2}\n',
    "sweep": "experiments: [table3]\nseeds: [0, 1]\nsettings:\n  steps: [1, 2]\n",
    "prompts": "prompt,seed,guidance\na cat,1,3.5\n",
    "reply": '{"synonyms": ["kitty"], "no_relation": [["car", 0.1], ["tree", 0.1], ["box", 0.2]], '
             '"far": [["hat", 0.3], ["sofa", 0.3], ["milk", 0.4]], "mid": [["dog", 0.6], ["fox", 0.5], ["lion", 0.6]]}',
}


def start_of(name: str) -> bytes:
    "What the fuzzer begins with."
    import torch

    from eraseanything.bilevel import KIND
    from eraseanything.files import sealed

    if name in STARTS:
        return STARTS[name].encode()
    layer, state = "transformer.transformer_blocks.0.attn.add_q_proj", '{"step": 1, "config": {}, "concept": "cat", "log": []}'
    tensors = {f"{layer}.lora_A.weight": torch.ones(1, 2), f"{layer}.lora_B.weight": torch.ones(2, 1)}
    return sealed(tensors, {"format": KIND, "state": state} if name == "checkpoint" else {"format": "pt"})


def hunt(name: str, corpus: str, seconds: int) -> None:
    "Fuzz one reader until the time is over or something crashes; does not return."
    import atheris

    with atheris.instrument_imports(include=["eraseanything"]):  # their code is watched
        from eraseanything.trust import let_in
    folder = Path(tempfile.mkdtemp(dir=Path(corpus).parent))

    def once(data: bytes) -> None:
        let_in(name, data, folder)

    atheris.Setup([sys.argv[0], corpus, f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=4096",
                   f"-artifact_prefix={corpus}/crash-", "-print_final_stats=1", "-seed=1"], once)
    atheris.Fuzz()


def trial(name: str, seconds: int, place: Path) -> dict:
    "One reader, in a process of its own; what became of it."
    corpus = place / name
    corpus.mkdir()
    (corpus / "start").write_bytes(start_of(name))
    words = [sys.executable, __file__, "--reader", name, "--corpus", str(corpus), "--seconds", str(seconds)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    tried = re.search(r"number_of_executed_units: (\d+)", done.stdout)
    reached = re.findall(r"cov: (\d+)", done.stdout)
    crashes = [path.read_bytes() for path in sorted(corpus.glob("crash-*"))]
    if not tried and not crashes:
        raise SystemExit(f"The fuzzer did not run on {name}:\n{done.stdout[-2000:]}")
    inputs = sorted((path.read_bytes() for path in corpus.iterdir() if not path.name.startswith("crash-")), key=len)
    print(f"{name:10}{int(tried[1]) if tried else 0:9} inputs, {len(crashes)} crashes", flush=True)
    for line in [line for line in done.stdout.splitlines() if "Error" in line][:5] if crashes else []:
        print("   ", line[:200], flush=True)
    text = lambda many: [base64.b64encode(one).decode() for one in many]
    return {"inputs": int(tried[1]) if tried else 0, "branches": int(reached[-1]) if reached else 0,
            "crashes": text(crashes), "kept": text(inputs[:KEPT])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all readers together")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reader:
        hunt(asked.reader, asked.corpus, asked.seconds)
    if importlib.util.find_spec("atheris") is None:
        print("This needs atheris: pip install atheris.")
        return 2
    from eraseanything.benchmark import code_version, cores
    from eraseanything.bilevel import versions
    from eraseanything.files import whole
    from eraseanything.trust import READERS

    started, code = time.monotonic(), code_version()
    with tempfile.TemporaryDirectory() as folder:
        each = max(1, asked.seconds // len(READERS))
        found = {name: trial(name, each, Path(folder)) for name in READERS}
    about = {"command": f"python tools/fuzz.py --seconds {asked.seconds}", **code, "versions": versions(),
             "cores": cores(), "seconds": round(time.monotonic() - started), "readers": found}
    asked.out.mkdir(parents=True, exist_ok=True)
    with whole(asked.out / "fuzz.json") as path:
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 1 if any(one["crashes"] for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
