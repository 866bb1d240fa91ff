"""Run notebooks in a fresh kernel and keep their outputs.

    python tools/run_notebooks.py                  # every notebook
    python tools/run_notebooks.py nbs/01_tokens.ipynb

Cells that `nbdev_test` skips (a flag of `tst_flags`, `#| eval: false`, the final `nbdev_export()`) are
skipped here too, and their stored outputs stay: results of a GPU survive a run on a laptop.
"""
import os
import re
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent

# Widgets name themselves with random ids. Counting instead makes two runs of a notebook byte-identical.
COUNTED_WIDGET_IDS = """
def _count_widget_ids():
    import itertools, types
    import comm.base_comm as base
    count = itertools.count()
    base.uuid = types.SimpleNamespace(uuid4=lambda: types.SimpleNamespace(hex=f"{next(count):032x}"))

_count_widget_ids()
del _count_widget_ids
"""


def skipped_flags() -> set[str]:
    "The flags that settings.ini tells nbdev_test to skip."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return set(config["DEFAULT"]["tst_flags"].split())


def is_skipped(source: str, flags: set[str]) -> bool:
    "Whether nbdev_test would leave out a cell with this source."
    found = set(re.findall(r"^#\|\s*(\w+)\s*$", source, re.M))
    never = re.search(r"^#\|\s*eval:\s*false", source, re.M)
    return bool(found & flags) or bool(never) or "nbdev_export(" in source


class SkippingClient(NotebookClient):
    "A notebook client that leaves flagged cells as they are."

    flags = skipped_flags()

    async def async_execute_cell(self, cell, cell_index, **options):
        if cell.cell_type == "code" and is_skipped(cell.source, self.flags):
            return cell
        return await super().async_execute_cell(cell, cell_index, **options)


def keep_one_picture(notebook) -> None:
    "PIL shows each picture as PNG and as JPEG: the PNG is enough."
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/jpeg", None)


def run(path: Path) -> float:
    "Execute the notebook at `path` in its own folder, write it back, return the seconds it took."
    start = time.time()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(COUNTED_WIDGET_IDS))
    where = {"metadata": {"path": str(path.resolve().parent)}}
    SkippingClient(notebook, timeout=3600, kernel_name="python3", resources=where).execute()
    notebook.cells.pop(0)
    keep_one_picture(notebook)
    nbformat.write(notebook, path)
    return time.time() - start


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar for every file read is no result
    paths = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "nbs").glob("*.ipynb"))
    for path in paths:
        print(f"{path.name}: {run(path):.1f} s", flush=True)
