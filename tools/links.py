"""Whether what the Markdown of the repository names is there: README, other pages, and the notebooks' text.

    python tools/links.py

Looked at: links and pictures, headings that a link names, files of the repository that are named in the text or in a
command, and chapters by their name or number. Nothing is fetched, so links to other hosts are left alone. What the
website makes of it is another matter: `link_faults` in tools/website.py follows its links.
"""
import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote

from readme import joined

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/artwork/README.md",
         "eraseanything/weights/emoji-flux/MODEL_CARD.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
FILE = re.compile(r"(?<![\w/.(])(?:nbs|tools|data|eraseanything)/[\w./-]*\w\.\w+")
CHAPTER = re.compile(r"`(\d\d[a-z]*_\w+)`|\bchapter (\d\d[a-z]*)\b")


def markdown_of(page: Path) -> str:
    "The text of a Markdown file, or of a notebook's Markdown cells."
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join(joined(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def heading_places(text: str) -> set[str]:
    "The names by which headings can be linked to, as GitHub makes them."
    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", plain, re.M)}


def leads_somewhere(address: str, page: Path) -> bool:
    "Whether there is a file, and a heading in it, at the place that `page` links to."
    if re.match(r"[a-z]+:", address):
        return True
    file, _, place = unquote(address).partition("#")
    target = page.parent / file if file else page
    return target.exists() and (not place or place in heading_places(markdown_of(target)))


def page_faults(page: Path, root: Path) -> list[str]:
    "What one page names and what is not there."
    text = markdown_of(page)
    links = ["".join(found) for found in LINK.findall(text)]
    faults = [f"leads to {address}" for address in links if not leads_somewhere(address, page)]
    faults += [f"names {name}" for name in FILE.findall(text) if not (root / name).exists()]
    for name, number in CHAPTER.findall(text):
        if not list((root / "nbs").glob(f"{name}.ipynb" if name else f"{number}_*.ipynb")):
            faults.append(f"names chapter {name or number}")
    return [f"{page.relative_to(root)} {fault}, which is not there" for fault in dict.fromkeys(faults)]


def markdown_faults(root: Path = ROOT) -> list[str]:
    "The faults of all pages and notebooks."
    pages = [root / name for name in PAGES] + sorted((root / "nbs").glob("[0-9a-z]*.ipynb"))
    return [fault for page in pages for fault in page_faults(page, root)]


if __name__ == "__main__":
    found = markdown_faults()
    print("\n".join(found) or "Every link leads somewhere")
    sys.exit(1 if found else 0)
