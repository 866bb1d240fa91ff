"""Make README.md from nbs/index.ipynb, without Quarto.

    python tools/readme.py

A plain conversion: Markdown cells as they are, code cells as fenced blocks, their printed or Markdown
outputs below them. Exported and hidden cells are left out. Pictures are files of the repository that a
Markdown cell refers to (`../data/...` in the notebook, `data/...` in the README). A notebook's name in
backticks becomes a link to it, as on the website, which is another matter: Quarto makes it from `_quarto.yml`.
"""
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTICE = "<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook, then run `make readme`. -->"


def joined(text) -> str:
    "Notebook text, which is a string or a list of lines, as one string."
    return text if isinstance(text, str) else "".join(text)


def output_markdown(output: dict) -> str:
    "What a reader sees of one output: Markdown as it is, anything else as text."
    if output["output_type"] == "stream":
        return "" if output["name"] == "stderr" else f"```\n{joined(output['text']).rstrip()}\n```"
    if output["output_type"] == "error":
        raise ValueError("index.ipynb holds an error output: run it again before making the README")
    data = output["data"]
    if "text/markdown" in data:
        return joined(data["text/markdown"]).strip()
    if any(kind.startswith("image/") for kind in data):
        raise ValueError("index.ipynb holds a picture as output: save it as a file and refer to it in Markdown")
    return f"```\n{joined(data['text/plain']).rstrip()}\n```"


def cell_markdown(cell: dict) -> str:
    "One cell as Markdown; empty for a cell that is exported, hidden, or neither text nor code."
    source = joined(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        return source
    if cell["cell_type"] != "code" or re.search(r"^#\|\s*(export|hide|default_exp|include:\s*false)", source, re.M):
        return ""
    code = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip()
    hidden = re.search(r"^#\|\s*echo:\s*false", source, re.M)
    parts = [] if hidden or not code else [f"```python\n{code}\n```"]
    parts += [output_markdown(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part)


def with_chapters(text: str, folder: Path) -> str:
    "Markdown in which the names of `folder`'s notebooks in backticks are links; code blocks stay as they are."
    def link(match: re.Match) -> str:
        file = folder / f"{match[1]}.ipynb"
        return f"[{match[0]}]({folder.name}/{file.name})" if file.is_file() else match[0]

    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)  # every second one is a code block
    return "".join(part if n % 2 else re.sub(r"(?<!\[)`(\w+)`", link, part) for n, part in enumerate(parts))


def readme(notebook: Path) -> str:
    "The README's text for `notebook`."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = [part for part in map(cell_markdown, cells) if part]
    text = "\n\n".join([parts[0], NOTICE, *parts[1:]]) + "\n"
    text = re.sub(r"(\]\()(\w+\.ipynb)", rf"\1{notebook.parent.name}/\2", text)
    return with_chapters(re.sub(r"(\]\(|src=\")\.\./", r"\1", text), notebook.parent)


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(ROOT / "nbs" / "index.ipynb"), encoding="utf-8")
    print("README.md made from nbs/index.ipynb")
