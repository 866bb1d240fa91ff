"""Build the website from the notebooks as they stand: their stored outputs, nothing executed.

    python tools/website.py                   # into _docs/
    python tools/website.py --out _site --pandoc

The notebooks become Markdown pages (tools/pages.py), which Quarto renders with `_quarto.yml`. Where Quarto is not
installed, or with --pandoc, a stand-in of our own does: pandoc, which Quarto itself is built on, with the same pages
and the sidebar of `_quarto.yml` in a plain layout (tools/website.html, tools/website.css). It has no search, and its
pages say at the bottom what made them. The published site is Quarto's. Neither asks another host for anything.
"""
import argparse
import html
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml
from pages import link_targets, page_of

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"


def settings() -> dict[str, str]:
    "What settings.ini says."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def chapters(quarto: dict) -> list[tuple[str, list[str]]]:
    "The sidebar: sections and the pages in each, without their endings; pages at the top are in section ''."
    found = []
    for entry in quarto["website"]["sidebar"]["contents"]:
        section, names = (entry["section"], entry["contents"]) if isinstance(entry, dict) else ("", [entry])
        found.append((section, [Path(name).stem for name in names]))
    return found


def prepare(folder: Path) -> dict:
    "Write what either renderer reads: pages, pictures, style sheet, `_quarto.yml`. Gives the latter's content."
    about = settings()
    text = (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    quarto = yaml.safe_load(text.replace(".ipynb", ".qmd"))
    quarto.pop("metadata-files", None)  # nbdev's own way to say the next five
    quarto["website"] |= {"title": about["title"], "description": about["description"],
                          "site-url": about["doc_host"] + about["doc_baseurl"],
                          "repo-url": about["git_url"], "repo-branch": about["branch"]}
    (folder / "_quarto.yml").write_text(yaml.safe_dump(quarto, sort_keys=False), encoding="utf-8")
    shutil.copy(ROOT / "nbs" / "styles.css", folder)
    notebooks = [ROOT / "nbs" / f"{name}.ipynb" for _, names in chapters(quarto) for name in names]
    targets = link_targets(notebooks)
    for notebook in notebooks:
        page = page_of(notebook, targets, f"{about['git_url']}/blob/{about['branch']}")
        (folder / f"{page.name}.qmd").write_text(page.markdown(), encoding="utf-8")
        for name, content in page.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return quarto


def with_quarto(folder: Path) -> Path:
    "Render with Quarto; gives the folder of the site."
    subprocess.run(["quarto", "render", str(folder)], check=True)
    return folder / yaml.safe_load((folder / "_quarto.yml").read_text(encoding="utf-8"))["project"]["output-dir"]


def title_of(page: Path) -> str:
    "The title in a page's front matter."
    return next(yaml.safe_load_all(page.read_text(encoding="utf-8").split("\n\n", 1)[0]))["title"]


def sidebar(quarto: dict, titles: dict[str, str], here: str) -> str:
    "The list of pages as HTML; the one called `here` is marked."
    lines = []
    for section, names in chapters(quarto):
        if section:
            lines.append(f"<p>{html.escape(section)}</p>")
        lines.append("<ul>")
        for name in names:
            mark = ' aria-current="page"' if name == here else ""
            lines.append(f'<li><a href="{name}.html"{mark}>{html.escape(titles[name])}</a></li>')
        lines.append("</ul>")
    return "\n".join(lines)


def with_pandoc(folder: Path, quarto: dict) -> Path:
    "Render with pandoc, in place of Quarto; gives the folder of the site."
    try:
        import pypandoc
    except ImportError:
        sys.exit("Neither Quarto nor pandoc is here: install quarto.org's, or pip install 'eraseanything[docs]'")
    pandoc, site, about = pypandoc.get_pandoc_path(), folder / "site", settings()
    shutil.copytree(folder, site, ignore=shutil.ignore_patterns("*.qmd", "*.yml", "site"))
    shutil.copy(TOOLS / "website.css", site)
    names = [name for _, names in chapters(quarto) for name in names]
    titles = {name: title_of(folder / f"{name}.qmd") for name in names}
    maker = f"Rendered by pandoc {pypandoc.get_pandoc_version()} in place of Quarto, which makes the published site."

    def render(place: int) -> None:
        name = names[place]
        variables = {"site": about["title"], "sidebar": sidebar(quarto, titles, name), "maker": maker,
                     "repository": about["git_url"], "toc-title": "On this page"}
        for kind, index in (("previous", place - 1), ("next", place + 1)):
            if 0 <= index < len(names):
                variables[kind] = names[index]
                variables[f"{kind}-title"] = titles[names[index]]
        given = [word for key, value in variables.items() for word in ("--variable", f"{key}={value}")]
        command = [pandoc, f"{name}.qmd", "--from", quarto["format"]["html"]["from"], "--to", "html5", "--mathml",
                   "--section-divs", "--toc", "--toc-depth", "3", "--template", TOOLS / "website.html",
                   "--fail-if-warnings", *given, "--output", site / f"{name}.html"]
        subprocess.run(command, cwd=folder, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(render, range(len(names))))
    return site


def build(out: Path, pandoc: bool = False) -> str:
    "Build the site into the folder `out`, which is emptied before; gives what rendered it."
    pandoc = pandoc or not shutil.which("quarto")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        quarto = prepare(folder)
        site = with_pandoc(folder, quarto) if pandoc else with_quarto(folder)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(site, out)
    return "pandoc, in place of Quarto" if pandoc else "Quarto"


class References(HTMLParser):
    "The places in a page, where its links lead, and what it loads by itself."

    def __init__(self, page: Path):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("id"):
            self.ids.add(values["id"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in ("script", "img", "source", "iframe") and values.get("src"):
            self.loads.append(values["src"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon"):
            self.loads.append(values["href"])


def link_faults(site: Path) -> list[str]:
    "Links inside a built site that lead nowhere, and files that it would fetch from elsewhere."
    pages = {path: References(path) for path in sorted(site.resolve().rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        faults += [f"{path.name} loads {load} from another host" for load in page.loads
                   if re.match(r"https?:|//", load)]
        for address in page.links + page.loads:
            if re.match(r"[a-z]+:|//", address):
                continue
            file, place = map(unquote, urldefrag(address))
            target = (path.parent / file).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (place and target in pages and place not in pages[target].ids):
                faults.append(f"{path.name} leads to {address}, which is not there")
    return faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the website from the notebooks.")
    parser.add_argument("--out", type=Path, default=ROOT / "_docs", help="a folder for the site; what is in it goes")
    parser.add_argument("--pandoc", action="store_true", help="render with pandoc even if Quarto is here")
    given = parser.parse_args()
    renderer = build(given.out, given.pandoc)
    print(f"{len(list(given.out.glob('*.html')))} pages in {given.out}, rendered by {renderer}")
