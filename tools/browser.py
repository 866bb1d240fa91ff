"""What only a browser can tell: whether the website can be read, whether a notebook works in JupyterLab, and whether
people can answer a user study.

    python tools/browser.py _docs                     # look at a site that is built
    python tools/browser.py nbs/02b_heat_maps.ipynb   # run a notebook in JupyterLab and move its slider
    python tools/browser.py study                     # two people answer a small study

Playwright drives a Chromium that is installed already: `chromium`, `google-chrome` or a relative on PATH, or the
one that the variable CHROMIUM names. Everything happens on 127.0.0.1.
"""
import csv
import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from website import link_faults

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LAB_SECONDS = 900  # a chapter runs for three minutes at most, on a machine that does nothing else

# What is wrong with the page that is open, as sentences.
PAGE_FAULTS = """() => {
  const main = document.querySelector("main"), faults = [], width = document.documentElement.scrollWidth;
  if (!main || !main.querySelector("h1") || main.innerText.length < 200) return ["there is nothing to read"];
  for (const picture of document.images)
    if (!picture.complete || !picture.naturalWidth) faults.push(`the picture ${picture.src} is not there`);
  if (width > innerWidth) {
    const wide = [...main.querySelectorAll("*")].filter(part => part.getBoundingClientRect().right > innerWidth + 1);
    const what = wide.length ? `, such as ${wide[0].tagName}: ${wide[0].textContent.trim().slice(0, 60)}` : "";
    faults.push(`it is ${width} pixels wide where there are ${innerWidth}${what}`);
  }
  if (parseFloat(getComputedStyle(main).fontSize) < 14) faults.push("its letters are too small");
  const prose = main.cloneNode(true);
  prose.querySelectorAll("pre, code, math, .math").forEach(part => part.remove());
  for (const mark of ["$$", ":::", "]("])
    if (prose.textContent.includes(mark)) faults.push(`${mark} is left over from its Markdown`);
  return faults;
}"""


def find_chromium() -> str | None:
    "The browser to drive, if there is one."
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, BROWSERS) if path), None)


@contextmanager
def chromium(executable: str):
    "A headless browser, closed at the end."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(folder: Path):
    "The address at which the files of a folder are served."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def listen(page, home: str) -> list[str]:
    "A list that fills with what goes wrong on a page: errors, failed requests, and requests that leave `home`."
    heard = []
    page.on("console", lambda message: heard.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("requestfailed", lambda request: heard.append(f"request failed: {request.url}"))
    page.on("request", lambda request: heard.append(f"it asks another host: {request.url}")
            if not request.url.startswith((home, "data:", "blob:")) else None)
    return heard


def site_faults(site: Path, executable: str) -> list[str]:
    "What is wrong with a built website, each page at the width of a desk and of a phone."
    faults = link_faults(site)
    with served(site) as home, chromium(executable) as browser:
        for screen in (DESK, PHONE):
            for path in sorted(site.glob("*.html")):
                page = browser.new_page(viewport=screen)
                heard = listen(page, home)
                page.goto(f"{home}/{path.name}", wait_until="load")
                found = heard + page.evaluate(PAGE_FAULTS)
                faults += [f"{path.name} at {screen['width']} pixels: {fault}" for fault in found]
                page.close()
    return faults


def free_port() -> int:
    "A port that nobody listens on."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def quiet_settings(folder: Path) -> None:
    "JupyterLab's settings for the test: no questions, no news from the network, every cell in the page, seen or not."
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"autoStartDefaultKernel": True, "windowingMode": "none"},
    }
    for name, values in settings.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")


@contextmanager
def jupyter_lab(root: Path, environment: dict[str, str]):
    "The address of a JupyterLab server with the files below `root`, and nothing of the user's own configuration."
    with tempfile.TemporaryDirectory() as temporary:
        own = Path(temporary)
        quiet_settings(own / "settings")
        places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
                  "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
        variables = {**environment, **{name: str(own / folder) for name, folder in places.items()}}
        home = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                   f"--ServerApp.port={home.rpartition(':')[2]}", "--ServerApp.port_retries=0",
                   "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True",
                   f"--ServerApp.root_dir={root}"]
        with open(own / "log", "w+") as log:
            server = subprocess.Popen(command, env=variables, cwd=root, stdout=log, stderr=log)
            try:
                wait_for_server(server, f"{home}/api", own / "log")
                yield home
            finally:
                server.terminate()
                server.wait(30)


def wait_for_server(server: subprocess.Popen, address: str, log: Path, seconds: int = 90) -> None:
    "Return when the address answers."
    end = time.time() + seconds
    while time.time() < end and server.poll() is None:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


# The kernel answers in the open notebook: before that, "Run All Cells" does nothing, silently.
KERNEL_READY = """() => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext, kernel = context?.session?.kernel;
  return Boolean(context?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle");
}"""

# The errors of the open notebook's cells; null while they run.
RESULT = """() => {
  const cells = jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === "code");
  const outputs = cells.flatMap(cell => cell.model.outputs.toJSON());
  const errors = outputs.filter(output => output.output_type === "error");
  const done = errors.length || cells.at(-1).model.executionCount;
  return done ? errors.map(error => `a cell failed: ${error.ename}: ${error.evalue}`) : null;
}"""


def run_all_cells(page) -> list[str]:
    "Run the open notebook from its menu; gives the errors of its cells."
    page.wait_for_function(KERNEL_READY, timeout=90_000, polling=500)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    end = time.time() + LAB_SECONDS
    while time.time() < end:
        faults = page.evaluate(RESULT)
        if faults is not None:
            return faults
        page.wait_for_timeout(500)
    return [f"its cells had not all run after {LAB_SECONDS} seconds"]


def slider_faults(page, seconds: int = 60) -> list[str]:
    "Move the first slider of the open notebook by keyboard; a fault unless the picture beside it changes."
    handle = page.locator(".jp-OutputArea .noUi-handle").first
    if not handle.count():
        return ["there is no slider in it"]
    pictures = page.locator(".jp-CodeCell", has=handle).locator(".jp-OutputArea img")
    pictures.first.wait_for(timeout=seconds * 1000)
    before, value = pictures.first.screenshot(), handle.get_attribute("aria-valuenow")
    at_end = float(value) >= float(handle.get_attribute("aria-valuemax"))
    handle.focus()
    page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    end = time.time() + seconds
    while time.time() < end:
        page.wait_for_timeout(300)
        moved = handle.get_attribute("aria-valuenow") != value
        if moved and pictures.count() and pictures.first.screenshot() != before:
            return []
    return [f"the slider {'moves, but its picture stays the same' if moved else 'does not move by keyboard'}"]


def lab_faults(notebook: Path, executable: str, environment: dict[str, str]) -> list[str]:
    "What is wrong with a notebook in JupyterLab, when it is run whole and its first slider moved."
    with jupyter_lab(notebook.parent, environment) as home, chromium(executable) as browser:
        page = browser.new_page(viewport=DESK)
        errors = []
        page.on("pageerror", lambda error: errors.append(f"error: {error}"))
        page.goto(f"{home}/lab/tree/{notebook.name}?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        faults = run_all_cells(page) or slider_faults(page)
    return errors + faults


# A study of two methods that draw nothing but a colour, so that making it takes no time.
TOY_STUDY = """
import sys
from PIL import Image
from eraseanything.concepts import Concept
from eraseanything.study import make_study
paint = lambda level: lambda concept, prompts, seeds: [Image.new("RGB", (96, 96), (level, 90, 90)) for _ in seeds]
cat = Concept("cat", mid=["dog"], no_relation=["car", "house"])
make_study(sys.argv[1], [cat], {"ours": paint(40), "rival": paint(200)})
"""


@contextmanager
def study_server(folder: Path, environment: dict[str, str]):
    "The links of two participants, served by the command that an organiser uses."
    command = [sys.executable, "-c", "from eraseanything.cli import main; raise SystemExit(main())", "study", "serve",
               str(folder), "--people", "2", "--port", "0"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        lines = [server.stdout.readline().split() for _ in range(2)]
        if not all(lines):
            raise RuntimeError("eraseanything study serve did not start")
        yield {line[0]: line[1] for line in lines}
    finally:
        server.kill()  # as hard as can be: every answer must be on the disk already
        server.wait(30)
        server.stdout.close()


def click_page(page, score_of) -> list[tuple[str, int]]:
    "Give every set of the open page a score; gives what was clicked: the address of the set's first picture, score."
    clicked = []
    for number in range(page.locator(".set").count()):
        one = page.locator(".set").nth(number)
        picture, score = one.locator("img").first.get_attribute("src"), score_of(number)
        one.get_by_role("button", name=str(score), exact=True).click()
        page.wait_for_selector(f"#set{number + 1} button.chosen")
        clicked.append((picture, score))
    return clicked


def answer_study(page, link: str, score_of, reload_at: int) -> list[tuple[str, int]]:
    "Answer a whole study as a person would, with one reload; gives what was clicked."
    clicked, pages = [], 0
    page.goto(link)
    page.get_by_role("link", name="Start at page 1").click()
    while True:
        page.wait_for_selector(".set")
        clicked += click_page(page, lambda number: score_of(pages, number))
        if pages == reload_at:
            chosen = page.locator("button.chosen").all_inner_texts()
            page.reload()
            if page.locator("button.chosen").all_inner_texts() != chosen:
                raise RuntimeError("after a reload the page shows other scores")
        finish = page.get_by_role("link", name="Finish")
        last = bool(finish.count())
        (finish if last else page.get_by_role("link", name="Next", exact=True)).click()
        pages += 1
        if last:
            page.get_by_role("heading", name="Thank you").wait_for()
            return clicked


# What is wrong with a page of the study, as sentences.
STUDY_FAULTS = """() => {
  const faults = [];
  for (const picture of document.images)
    if (!picture.complete || !picture.naturalWidth) faults.push(`the picture ${picture.alt} is not there`);
  if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is wider than the screen");
  for (const button of document.querySelectorAll("button"))
    if (button.getBoundingClientRect().height < 36) { faults.push("a button is too small for a thumb"); break; }
  return faults;
}"""


def clicked_rows(folder: Path, name: str, link: str, clicked: list[tuple[str, int]]) -> set[tuple]:
    "What was clicked as the report should have it: participant, item, method, score."
    from eraseanything.study import pages_for, read_study
    study, rows = read_study(folder), set()
    pages = pages_for(study, name)
    for address, score in clicked:
        page, place, _ = address.rpartition(link.rpartition("/")[2] + "/")[2].split("/")
        shown = pages[int(page) - 1]
        rows.add((name, str(shown.item), study.methods[shown.methods[int(place) - 1]], str(score)))
    return rows


def study_faults(work: Path, executable: str, environment: dict[str, str]) -> list[str]:
    "What is wrong when two participants, one at a desk and one with a phone, answer a study at the same time."
    folder, faults, wanted = work / "study", [], set()
    subprocess.run([sys.executable, "-c", TOY_STUDY, str(folder)], env=environment, check=True)
    with study_server(folder, environment) as links, chromium(executable) as browser:
        for n, ((name, link), screen) in enumerate(zip(links.items(), (DESK, PHONE))):
            page = browser.new_context(viewport=screen).new_page()
            heard = listen(page, link.rpartition("/")[0])
            found = []
            page.on("load", lambda page: found.extend(page.evaluate(STUDY_FAULTS)))
            score = lambda where, number: 1 + (where + 2 * number + n) % 5
            clicked = answer_study(page, link, score, reload_at=2)
            faults += [f"{name}: {fault}" for fault in dict.fromkeys(heard + found)]
            wanted |= clicked_rows(folder, name, link, clicked)
    report = [sys.executable, "-c", "from eraseanything.cli import main; raise SystemExit(main())", "study", "report",
              str(folder)]
    subprocess.run(report, env=environment, check=True, stdout=subprocess.DEVNULL)
    with open(folder / "answers.csv", newline="", encoding="utf-8") as file:
        rows = {(row["participant"], row["item"], row["method"], row["score"]) for row in csv.DictReader(file)}
    if rows != wanted:
        faults.append(f"the report differs from what was clicked: {sorted(rows ^ wanted)[:4]}")
    return faults


def main(target: Path) -> int:
    "Print what is wrong with a site's folder, a notebook or the study."
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install one, or name it with the variable CHROMIUM")
    if target == Path("study"):
        with tempfile.TemporaryDirectory() as work:
            faults = study_faults(Path(work), executable, dict(os.environ))
    elif target.is_dir():
        faults = site_faults(target, executable)
    else:
        faults = lab_faults(target.resolve(), executable, dict(os.environ))
    print("\n".join(faults) or f"nothing is wrong with {target}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
