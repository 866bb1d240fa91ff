"""Run every check and count them.

    python tools/check.py                  # all
    python tools/check.py library tokens   # those whose name contains one of these words

Each check works on copies in a temporary folder and only compares: it needs no clean git tree and repairs
nothing. What to do about a difference is said in its message. No check may use the network. Three need a browser and
are skipped where there is none. As many checks run at a time as there are processors, up to four; each then has
one thread, which does more in all than one check after another on several.
"""
import builtins
import filecmp
import multiprocessing
import os
import shutil
import subprocess
import symtable
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import forkserver
from pathlib import Path

import yaml
from browser import find_chromium, lab_faults, site_faults, study_faults
from links import markdown_faults
from readme import readme
from website import build, chapters, link_faults

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "eraseanything"
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9a-z]*.ipynb"))
BIN = Path(sys.executable).parent

# Hubs told to stay offline, every other connection sent to a port where nobody answers.
NOWHERE = "http://127.0.0.1:9"
AT_ONCE = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
OFFLINE = {"HF_HUB_OFFLINE": "1", "http_proxy": NOWHERE, "https_proxy": NOWHERE, "NO_PROXY": "localhost,127.0.0.1"}
ENVIRONMENT = {**os.environ, **OFFLINE, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "MPLBACKEND": "agg"}
if AT_ONCE > 1:
    ENVIRONMENT["OMP_NUM_THREADS"] = "1"

# What nearly every notebook imports, for seven seconds. One process does so once; each notebook is a fork of it.
# Elsewhere than on Linux, a fork does not always work with what these libraries bring: there each imports for itself.
IMPORTED = ["torch", "nbdev.test", "eraseanything.cli", "peft", "seaborn", "diffusers.loaders.peft",
            "diffusers.models.transformers.transformer_flux", "diffusers.models.autoencoders.autoencoder_kl",
            "transformers.models.clip.modeling_clip", "transformers.models.t5.modeling_t5"]
LONGEST = 1200  # seconds that a notebook may take
PROCESSES = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")

SLIDERS = "02b_heat_maps.ipynb"  # the chapter that is opened in JupyterLab

# The least that `eraseanything erase` can do and still write everything.
SMALLEST = "--steps 2 --trajectories 2 --trajectory-steps 2 --preserve-prompts 2 --rsc-points 2 --score-steps 1".split()


class Failure(Exception):
    "A check that found something; its text says what, and what to do."


class Skipped(Exception):
    "A check that this machine cannot do; its text says what is missing."


def command(*words, cwd=ROOT, path=None) -> str:
    "Run a command offline and return what it printed; a Failure with the end of it where it fails."
    environment = ENVIRONMENT if path is None else {**ENVIRONMENT, "PYTHONPATH": str(path)}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise Failure(f"{Path(str(words[0])).name} ended with {done.returncode}:\n{tail}")
    return done.stdout


def project_copy(folder: Path) -> Path:
    "The files that nbdev and setuptools read, copied into `folder`."
    for name in ["settings.ini", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt", "_quarto.yml"]:
        shutil.copy(ROOT / name, folder)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_proc")
    for name in ["nbs", "eraseanything"]:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    return folder


def same_files(made: Path, kept: Path, pattern: str, remedy: str) -> None:
    "Fail unless both folders hold the same files of this pattern."
    names = sorted({path.name for folder in (made, kept) for path in folder.glob(pattern)})
    differ = [name for name in names if not (made / name).exists() or not (kept / name).exists()
              or not filecmp.cmp(made / name, kept / name, shallow=False)]
    if differ:
        raise Failure(f"{', '.join(differ)}: {remedy}")


def check_library(folder: Path) -> None:
    copy = project_copy(folder)
    for module in (copy / "eraseanything").glob("*.py"):
        module.unlink()
    command("nbdev_export", cwd=copy)
    same_files(copy / "eraseanything", PACKAGE, "*.py", "not what the notebooks say; run nbdev_export")


def unknown_names(path: Path) -> list[str]:
    "Names that a module uses and nobody gives it: in a notebook, a cell that is not exported may have imported them."
    table = symtable.symtable(path.read_text(encoding="utf-8"), str(path), "exec")
    given = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    given |= {"__file__", "__name__", "__class__", *dir(builtins)}
    tables, missing = [table], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used = (symbol for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced())
        missing |= {symbol.get_name() for symbol in used} - given
    return sorted(missing)


def check_names(folder: Path) -> None:
    "Each module has all the names that it uses."
    faults = {path.name: unknown_names(path) for path in sorted(PACKAGE.glob("*.py"))}
    if any(faults.values()):
        raise Failure("\n".join(f"{name} does not import {', '.join(names)}" for name, names in faults.items() if names))


def check_clean(folder: Path) -> None:
    copy = project_copy(folder)
    command("nbdev_clean", cwd=copy)
    same_files(copy / "nbs", ROOT / "nbs", "*.ipynb", "not clean; run nbdev_clean")


def check_readme(folder: Path) -> None:
    if (ROOT / "README.md").read_text(encoding="utf-8") != readme(ROOT / "nbs" / "index.ipynb"):
        raise Failure("README.md is not what nbs/index.ipynb says; run make readme")


def check_links(folder: Path) -> None:
    "README, the other pages and the notebooks name no file, heading or chapter that is not there."
    faults = markdown_faults()
    if faults:
        raise Failure("\n".join(faults))


def check_site(folder: Path) -> None:
    "`_quarto.yml` lists each notebook once, and the site that pandoc makes of them has no dead link."
    quarto = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    listed = [name for _, names in chapters(quarto) for name in names]
    present = [path.stem for path in NOTEBOOKS]
    if sorted(listed) != sorted(present):
        raise Failure(f"_quarto.yml lists {sorted(set(listed) ^ set(present))} otherwise than nbs/ has them")
    build(folder / "site", pandoc=True)
    faults = link_faults(folder / "site")
    if faults:
        raise Failure("\n".join(faults))


def browser_executable() -> str:
    "The Chromium that this machine has."
    executable = find_chromium()
    if executable is None:
        raise Skipped("no Chromium found (it can be named by the variable CHROMIUM)")
    return executable


def check_site_in_browser(folder: Path) -> None:
    "Every page of the site at the width of a desk and of a phone."
    executable = browser_executable()
    build(folder / "site", pandoc=True)
    faults = site_faults(folder / "site", executable)
    if faults:
        raise Failure("\n".join(faults))


def check_lab(folder: Path) -> None:
    "JupyterLab runs a copy of the chapter with sliders, and its picture follows the slider."
    executable = browser_executable()
    copy = project_copy(folder)
    (copy / "data").symlink_to(ROOT / "data")
    faults = lab_faults(copy / "nbs" / SLIDERS, executable, ENVIRONMENT)
    if faults:
        raise Failure("\n".join(f"{SLIDERS}: {fault}" for fault in faults))


def check_study(folder: Path) -> None:
    "Two participants answer a study in a browser, with a reload; the report says what they clicked."
    faults = study_faults(folder, browser_executable(), ENVIRONMENT)
    if faults:
        raise Failure("\n".join(faults))


def check_wheel(folder: Path) -> None:
    "The wheel, installed away from the checkout, samples and erases without a network."
    (folder / "source").mkdir()
    source = project_copy(folder / "source")
    command(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    [wheel] = folder.glob("*.whl")
    installed, work = folder / "installed", folder / "work"
    work.mkdir()
    command(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", installed, wheel)
    found = command(sys.executable, "-c", "import eraseanything; print(eraseanything.__file__)", cwd=work, path=installed)
    if not found.strip().startswith(str(installed.resolve())):
        raise Failure(f"the installed package was not the one imported, but {found.strip()}")
    tool = installed / "bin" / "eraseanything"
    command(tool, "--help", cwd=work, path=installed)
    command(tool, "erase", "cat", "--out", "cat", *SMALLEST, cwd=work, path=installed)
    command(tool, "sample", "a photo of a cat", "--lora", "cat:0.5", "--out", "cat.png", "--count", "2", cwd=work,
            path=installed)
    written = {path.name for path in (work / "cat").iterdir()}
    lacking = {"pytorch_lora_weights.safetensors", "config.json", "log.jsonl", "before_after.png", "scores.json"} - written
    if lacking or not (work / "cat.png").stat().st_size:
        raise Failure(f"erase and sample did not write {', '.join(lacking) or 'a picture'}")


def start_importing() -> None:
    "Start the process that notebooks are forks of. What libraries miss they tell each notebook's log, and nobody here."
    PROCESSES.set_forkserver_preload(IMPORTED)
    if PROCESSES.get_start_method() == "forkserver":
        kept = os.dup(2)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        forkserver.ensure_running()
        os.dup2(kept, 2)
        os.close(kept)


def run_notebook(path: Path, log: Path) -> None:
    "Run a notebook as `nbdev_test` does. The process ends with 1 where a cell fails; what it prints is in `log`."
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    import torch
    from nbdev.config import get_config
    from nbdev.test import test_nb

    os.chdir(ROOT)
    flags = set(get_config().tst_flags.split()) - ({"cuda"} if torch.cuda.is_available() else set())
    passed, seconds = test_nb(path, skip_flags=flags, basepath=ROOT)
    if not seconds:
        print("nothing in it was run")
    sys.exit(0 if passed and seconds else 1)


def notebook_check(path: Path):
    "A check that runs one notebook, in a process of its own."
    def check(folder: Path) -> None:
        log = folder / "log"
        process = PROCESSES.Process(target=run_notebook, args=(path, log))
        process.start()
        process.join(LONGEST)
        if process.is_alive():
            process.kill()
            process.join()
            raise Failure(f"{path.name} was stopped: no notebook should take {LONGEST} seconds")
        if process.exitcode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else ""
            raise Failure(f"{path.name} ended with {process.exitcode}:\n{tail}")
    return check


def report(name: str, check) -> tuple[str, str]:
    "Do a check: its verdict, and the line that tells of it."
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(Path(folder))
            verdict, detail = "passed", ""
        except Skipped as reason:
            verdict, detail = "skipped", f": {reason}"
        except Exception as error:
            verdict, detail = "FAILED", f"\n{error if isinstance(error, Failure) else repr(error)}"
    return verdict, f"{verdict}  {name}  ({time.time() - start:.0f} s){detail}"


def main(words: list[str]) -> int:
    os.environ.update(ENVIRONMENT)  # before the process that the notebooks are forks of starts
    start_importing()
    checks = {
        "library in step with the notebooks": check_library,
        "every name is imported": check_names,
        "notebooks clean": check_clean,
        "README in step with index.ipynb": check_readme,
        "links of README and other pages": check_links,
        "website builds, links lead somewhere": check_site,
        "website in a browser": check_site_in_browser,
        "notebooks in JupyterLab": check_lab,
        "user study in a browser": check_study,
        **{f"notebook {path.name}": notebook_check(path) for path in NOTEBOOKS},
        "wheel works offline": check_wheel,
    }
    chosen = {name: check for name, check in checks.items() if not words or any(word in name for word in words)}
    counts = {"passed": 0, "FAILED": 0, "skipped": 0}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in as_completed([pool.submit(report, name, check) for name, check in chosen.items()]):
            verdict, line = done.result()
            counts[verdict] += 1
            print(line, flush=True)
    print(f"{counts['passed']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
    return 1 if counts["FAILED"] or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
