"""Notebooks as Markdown pages of the website, with what their last run left in them. Nothing is executed.

A page follows nbdev's directives: `#| hide` leaves a cell out, `#| echo: false` its code, `#| code-fold: true`
(or `false`) decides what is folded. Otherwise the code is on the page, exported functions included, and folded
only where few will read it at first: see `fold_summary`. Names in backticks become links to their definition.
"""
import ast
import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from readme import joined

PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
SLIDER = "*Here stand sliders when the notebook runs: open it with* `make lab`*. The site shows the picture only.*"
SHORT = 3     # lines of code that are never folded
DRAWING = 12  # lines from which on the code of a picture is folded


@dataclass
class Page:
    "One page: its Markdown, and the files that belong beside it."
    name: str                # of the notebook, without its ending
    title: str = ""
    description: str = ""
    parts: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict) # pictures by their path in the site
    section: str = ""        # the heading that was read last

    def markdown(self) -> str:
        "The page with its front matter, which is JSON: YAML that needs no care with quotes."
        front = json.dumps({"title": self.title, "description": self.description}, ensure_ascii=False)
        return f"---\n{front}\n---\n\n" + "\n\n".join(part for part in self.parts if part) + "\n"


def directives(source: str) -> tuple[dict[str, str], str]:
    "The `#|` lines of a cell by their names, and the code without them."
    found, code = {}, []
    for line in source.splitlines():
        match = re.match(r"#\|\s*([\w-]+):?\s*(.*)", line)
        if match:
            found[match[1]] = match[2].strip()
        else:
            code.append(line)
    return found, "\n".join(code).strip()


def statements(code: str) -> list[ast.stmt]:
    "The parsed code; nothing for what is not plain Python."
    try:
        return ast.parse(code).body
    except SyntaxError:
        return []


def defined(code: str) -> list[str]:
    "Functions and classes that the code defines, and its constants."
    names = []
    for statement in statements(code):
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign):
            written = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            names += [name for name in written if name.isupper()]
    return names


def is_check(statement: ast.stmt) -> bool:
    "Whether a statement only makes sure of something."
    if isinstance(statement, (ast.With, ast.For)):
        return is_check(statement.body[-1])
    call = statement.value if isinstance(statement, ast.Expr) else None
    tested = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.startswith("test_")
    return tested or isinstance(statement, ast.Assert)


def fold_summary(code: str, found: dict[str, str], pictures: bool, printed: bool) -> str | None:
    "What stands in place of folded code; None where the code is to be seen."
    if "code-fold" in found:
        return found.get("code-summary", "Code").strip("'\"") if found["code-fold"] == "true" else None
    body, names, lines = statements(code), defined(code), len(code.splitlines())
    if not body or lines <= SHORT:
        return None
    if all(isinstance(statement, (ast.Import, ast.ImportFrom)) for statement in body):
        return "Imports"
    if "export" in found:
        private = names and all(name.startswith("_") for name in names)
        return f"Helpers: {', '.join(names)}" if private else None
    if pictures:
        return "The code of this picture" if lines >= DRAWING else None
    return "Checks" if is_check(body[-1]) and not printed and not names else None


def fenced(text: str, language: str = "") -> str:
    "Text as a code block, in a fence that is longer than any in it."
    fence = "`" * max([3] + [len(ticks) + 1 for ticks in re.findall(r"`{3,}", text)])
    return f"{fence}{language}\n{text}\n{fence}"


def as_printed(text: str) -> str:
    "Text as a terminal shows it in the end: no colours, and of an overwritten line the last state."
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip().split("\n"))


def has_slider(model: str, state: dict) -> bool:
    "Whether a widget of the stored state, or one inside it, is a slider."
    widget = state.get(model, {})
    if "Slider" in widget.get("model_name", ""):
        return True
    children = re.findall(r"IPY_MODEL_(\w+)", json.dumps(widget.get("state", {})))
    return any(has_slider(child, state) for child in children)


def output_markdown(output: dict, page: Page, state: dict) -> str:
    "One stored output; a picture becomes a file of the page."
    if output["output_type"] == "error":
        raise ValueError(f"{page.name}.ipynb holds an error output: run it again before making the website")
    if output["output_type"] == "stream":
        return "" if output["name"] == "stderr" else fenced(as_printed(joined(output["text"])))
    data = output["data"]
    if WIDGET in data:
        return SLIDER if has_slider(data[WIDGET]["model_id"], state) else ""
    for kind, ending in PICTURES.items():
        if kind in data:
            name, raw = f"pictures/{page.name}-{len(page.files) + 1}.{ending}", joined(data[kind])
            page.files[name] = raw.encode() if ending == "svg" else base64.b64decode(raw)
            said = page.section.replace('"', "'")
            return f'![]({name}){{alt="Picture of the section {said}"}}'
    if "text/markdown" in data:
        return joined(data["text/markdown"]).strip()
    if "text/html" in data:
        return f"```{{=html}}\n{joined(data['text/html'])}\n```"
    return fenced(as_printed(joined(data["text/plain"])))


def code_markdown(cell: dict, page: Page, state: dict) -> str:
    "A code cell with its outputs, which others can link to by the names that it exports."
    found, code = directives(joined(cell["source"]))
    if "hide" in found or found.get("include") == "false":
        return ""
    outputs = [] if found.get("output") == "false" else cell["outputs"]
    shown = [text for text in (output_markdown(output, page, state) for output in outputs) if text]
    parts = []
    if code and found.get("echo") != "false":
        pictures = any(text.startswith("![]") for text in shown)
        summary = fold_summary(code, found, pictures, bool(shown))
        block = fenced(code, "python")
        parts.append(block if summary is None else
                     f'<details class="code-fold">\n<summary>{summary}</summary>\n\n{block}\n\n</details>')
    if shown:
        parts.append("::: {.cell-output}\n" + "\n\n".join(shown) + "\n:::")
    anchors = [f"[]{{#code-{name}}}" for name in (defined(code) if is_exported(found) else [])]
    return "\n".join(["::: {.cell}", "".join(anchors), "\n\n".join(parts), ":::"]) if parts else ""


def is_exported(found: dict[str, str]) -> bool:
    "Whether a cell with these directives goes into the library."
    return bool(found.keys() & {"export", "exports", "exporti"})


def exported_names(notebook: Path) -> list[str]:
    "What a notebook adds to the library."
    names = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        found, code = directives(joined(cell["source"]))
        if cell["cell_type"] == "code" and is_exported(found) and "hide" not in found:
            names += defined(code)
    return names


def link_targets(notebooks: list[Path]) -> dict[str, dict[str, str]]:
    "Where a name in backticks leads to: by name, then by the notebook that defines it."
    targets = {}
    for path in notebooks:
        targets.setdefault(path.stem, {})[path.stem] = f"{path.stem}.html"
        for name in exported_names(path):
            targets.setdefault(name, {})[path.stem] = f"{path.stem}.html#code-{name}"
    return targets


def linked(text: str, here: str, targets: dict[str, dict[str, str]]) -> str:
    "Markdown in which the names of `targets` in backticks are links; headings and code blocks stay as they are."
    def link(match: re.Match) -> str:
        places = targets.get(match[1], {})
        place = places.get(here) or (next(iter(places.values())) if len(places) == 1 else None)
        return f"[{match[0]}]({place})" if place and place != f"{here}.html" else match[0]

    lines, fence = [], ""
    for line in text.splitlines():
        opening = re.match(r"\s*(```+|~~~+)", line)
        if opening and (not fence or line.strip() == fence):
            fence = "" if fence else opening[1]
        elif not fence and not line.startswith("#"):
            line = re.sub(r"(?<![\[`])`(\w+)(?:\(\))?`(?![\]`])", link, line)
        lines.append(line)
    return "\n".join(lines)


def with_files(text: str, page: Page, folder: Path, source_url: str) -> str:
    "References to files above `folder`: a picture moves into the site, anything else is linked in the repository."
    def place(match: re.Match) -> str:
        path = folder.parent / match[2]
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".svg", ".gif"):
            if path.exists():  # one that is not is a dead link, which `link_faults` finds
                page.files[match[2]] = path.read_bytes()
            return match[1] + match[2]
        return f"{match[1]}{source_url}/{match[2]}"

    text = re.sub(r"(\]\(|src=\")\.\./([^)\"\s]+)", place, text)
    return re.sub(r"(\]\(\w+)\.ipynb\b", r"\1.html", text)


def page_of(notebook: Path, targets: dict[str, dict[str, str]], source_url: str) -> Page:
    "The page of a notebook whose first cell is its title and, as a quotation, what it is about."
    content = json.loads(notebook.read_text(encoding="utf-8"))
    state = content["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    cells = [cell for cell in content["cells"] if joined(cell["source"]).strip()]
    page = Page(notebook.stem)
    head = re.match(r"# (.+)\n+((?:>.*\n?)*)", joined(cells[0]["source"]))
    if head is None:
        raise ValueError(f"{notebook.name} does not begin with a title")
    page.title = page.section = head[1].strip()
    page.description = " ".join(line.lstrip("> ") for line in head[2].splitlines()).strip()
    cells[0]["source"] = joined(cells[0]["source"])[head.end():]
    for cell in cells:
        if cell["cell_type"] == "code":
            text = code_markdown(cell, page, state)
        else:
            text = linked(joined(cell["source"]), page.name, targets)
            page.section = ([page.section] + re.findall(r"^#+ (.+)$", text, re.M))[-1]
        page.parts.append(with_files(text, page, notebook.parent, source_url))
    return page
