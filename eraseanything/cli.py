import contextlib
import io
import itertools
import json
import math
import os
import re
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Union

import tyro

from .attacks import ATTACKS
from .attention import heat_maps, plot_heat_maps
from .bilevel import CHECKPOINT, WEIGHTS, EraseConfig
from .bilevel import config_from_dict, erase, load_erasure, whole
from .concepts import find_concept
from .flux import EMBEDDED, InputError, architecture, check_prompts, contact_sheet, load_pipeline
from .flux import plot_architecture, sample
from .metrics import Judge, score_erasure, seen_names
from .tokens import token_positions

def parse_lora(
    text: str,  # FOLDER or FOLDER:STRENGTH
) -> tuple[Path, float]:  # a folder that holds a LoRA, and a finite strength
    "Read the value of --lora; an InputError if there is no LoRA at that place."
    folder, _, strength = text.rpartition(":")
    if Path(text).exists() or not folder:
        folder, strength = text, "1"
    try:
        value = float(strength)
    except ValueError:
        folder, value = text, 1.0
    if not math.isfinite(value):
        raise InputError(f"The strength of --lora {text} is not finite: give a number such as {folder}:0.7.")
    if not (Path(folder) / WEIGHTS).is_file():
        raise InputError(f"There is no LoRA at {folder}: give a folder with {WEIGHTS} in it.")
    return Path(folder), value

def check_writable(
    path: Path,  # a file or folder that may not exist yet
) -> None:
    "An InputError unless something can be written at this place."
    place = path.absolute()
    while not place.is_dir() and (place == path.absolute() or not place.exists()):
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{path} cannot be written: {place} is a file, and a folder would be needed there.")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        reason = error.strerror
        raise InputError(f"{path} cannot be written ({reason}): name a place of your own.") from None


def check_out_folder(
    folder: Path,
    reuse: bool = False,  # whether it may hold something already
) -> None:
    "An InputError unless the folder is new or empty, or may be reused, and can be written."
    if folder.is_file():
        raise InputError(f"{folder} is a file: name a folder with --out.")
    if folder.is_dir() and any(folder.iterdir()) and not reuse:
        raise InputError(f"{folder} is not empty: name another with --out, or say --overwrite or --resume.")
    check_writable(folder)


def check_picture(
    path: Path,
) -> None:
    "An InputError unless a picture can be written to this file."
    from PIL import Image
    if path.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"{path} does not end like a picture: .png would be right.")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file with --out.")
    check_writable(path)

@dataclass(frozen=True)
class Settings(EraseConfig):
    "The settings of an erasure."

    def __post_init__(self):
        pass

    def checked(self) -> EraseConfig:
        "The same as an `EraseConfig`, which checks every range."
        return EraseConfig(**{item.name: getattr(self, item.name) for item in fields(self)})


def read_settings(
    path: Path,  # JSON: settings, or the config.json of a run
) -> Settings:
    "Settings from a file; those that it does not name keep their defaults."
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--config {path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise InputError(f"--config {path} holds no settings: give an object such as {{\"steps\": 300}}.")
    config = config_from_dict(values.get("settings", values))
    return Settings(**{item.name: getattr(config, item.name) for item in fields(config)})

def check_fits(
    transformer,
    folder: Path,  # with a LoRA in it
) -> None:
    "An InputError unless every tensor of the LoRA belongs to a projection of this transformer."
    from safetensors import SafetensorError, safe_open
    modules = dict(transformer.named_modules())
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"The LoRA at {folder} cannot be read: {error}.") from None
    for key, shape in shapes.items():
        name, _, part = key.removeprefix("transformer.").rpartition(".lora_")
        if not part:
            continue
        layer = modules.get(name)
        side, there = ("in_features", shape[1]) if part.startswith("A") else ("out_features", shape[0])
        if getattr(layer, side, None) != there:
            raise InputError(f"The LoRA at {folder} was made for another model: {key} fits nothing here.")


@dataclass(frozen=True)
class Source:
    "Which model, and how it is held in memory."
    model: str = EMBEDDED  # the embedded model, a folder saved by diffusers, or a hub id
    dtype: str | None = None  # float32, bfloat16 or float16; bfloat16 on a GPU without it
    device: str | None = None  # cpu, cuda, cuda:1; the first GPU without it, or the CPU
    offload: str | None = None  # model or sequential: keep idle parts in main memory
    quantize: str | None = None  # int8 or nf4: keep the large parts in fewer bits

    def load(self, loras: list[tuple[Path, float]] = ()):
        "The pipeline, with these LoRAs active."
        if self.model == EMBEDDED or Path(self.model).is_dir():  # no download: no bars for reading a file
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        pipe = load_pipeline(self.model, self.dtype, self.device, self.offload, self.quantize)
        for folder, _ in loras:
            check_fits(pipe.transformer, folder)
        for folder, strength in loras:
            load_erasure(pipe, folder, strength)
        return pipe

_Source = Annotated[Source, tyro.conf.arg(name="")]
_Loras = tyro.conf.UseAppendAction[tuple[str, ...]]
_Concept = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="CONCEPT")]]
_Prompt = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PROMPT")]]
_Word = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="WORD")]]
RESULTS = ("config.json", "log.jsonl", "before_after.png", "scores.json")  # what erase writes beside the LoRA


@contextlib.contextmanager
def unmade(
    folder: Path,  # one that the block may make
):
    "If the block fails, take away the empty folders that it made."
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for place in missing:
                place.rmdir()
        raise


@dataclass(frozen=True)
class Erase:
    "Erase a concept: train a LoRA, score it, and draw before and after."
    concept: _Concept  # what to erase, such as cat or "Van Gogh"
    out: Path | None = None  # folder for the results; runs/CONCEPT without it
    source: _Source = field(default_factory=Source)
    kind: str | None = None  # what the concept is: entity, style, relationship...; looked up without it
    judge: str | None = None  # a CLIP that scores: folder or hub id; for the embedded model its own
    score: tyro.conf.FlagCreatePairsOff[bool] = True  # score the erasure and the untouched model
    score_seeds: int = 3  # pictures for each wording when scoring
    score_steps: int | None = None  # Euler steps of those pictures; as many as suit the model without it
    resume: tyro.conf.FlagCreatePairsOff[bool] = False  # go on from the last checkpoint in --out
    checkpoint_every: int = 0  # write a checkpoint every so many iterations; 0 writes none
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False  # use --out even if it is not empty
    config: Path | None = None  # settings from a JSON file; options given here win
    settings: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def folder(self) -> Path:
        "Where the results go."
        return self.out or Path("runs") / re.sub(r"\W+", "-", self.concept.strip().lower()).strip("-")

    def check(self) -> EraseConfig:
        "Find what is wrong without loading anything."
        if not self.concept.strip():
            raise InputError("The concept is empty: name what to erase, such as cat.")
        if self.score_seeds < 1 or self.checkpoint_every < 0 or (self.score_steps or 1) < 1:
            raise InputError("--score-seeds and --score-steps start at 1, --checkpoint-every at 0.")
        check_out_folder(self.folder(), reuse=self.overwrite or self.resume)
        return self.settings.checked()

    def run(self) -> None:
        config = self.check()
        concept = find_concept(self.concept.strip(), kind=self.kind)
        pipe = self.source.load()
        check_prompts(pipe, [concept.prompt()])
        judged = self.score and (self.judge or self.source.model == EMBEDDED)
        judge = Judge.load(self.judge) if judged else None
        out = self.folder()
        if self.overwrite and not self.resume:
            for name in (WEIGHTS, CHECKPOINT, *RESULTS):
                (out / name).unlink(missing_ok=True)
        with unmade(out):
            erasure = erase(pipe, concept, config, out, self.resume, self.checkpoint_every)
        erasure.save(out)
        print(f"LoRA, settings, log and picture: {out}")
        if judge:
            scores = score_erasure(pipe, concept, judge, seeds=self.score_seeds, attacks=ATTACKS,
                                   seen=seen_names(concept, config), steps=self.score_steps)
            scores |= {"seconds_erasing": round(erasure.seconds, 1)}
            with whole(out / "scores.json") as path:
                path.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
            print(score_table(scores))
        elif self.score:
            print("Not scored: name a CLIP for it, such as --judge openai/clip-vit-base-patch32.")

def score_table(
    scores: dict,  # of `score_erasure`
) -> str:  # lines of text
    "The scores, one line each, before and after."
    wanted = {"acc_e": "concept still drawn", "acc_g": "drawn by a synonym", "acc_ir": "other concepts kept",
              "acc_unseen": "kept, never trained on"}
    rows = [(wanted[name], scores["base"][name], scores[name], scores["intervals"][name]) for name in wanted]
    rows += [(f"drawn by {name}", scores["base"]["asr"][name], value, scores["intervals"][name])
             for name, value in scores["asr"].items()]
    lines = [f"{'':24}{'before':>8}{'after':>8}   95% interval"]
    lines += [f"{label:24}{before:8.0%}{after:8.0%}   {low:.0%} to {high:.0%}"
              for label, before, after, (low, high) in rows if after is not None]
    if scores.get("kept"):
        share, low, high = scores["kept"]
        lines += [f"Of the other concepts' accuracy {share:.0%} is kept ({low:.0%} to {high:.0%})."]
    return "\n".join(lines)

@dataclass(frozen=True)
class Sample:
    "Draw pictures, with or without LoRAs."
    prompt: _Prompt  # what to draw
    out: Path = Path("sample.png")  # the picture; several are drawn side by side
    source: _Source = field(default_factory=Source)
    lora: _Loras = ()  # FOLDER or FOLDER:STRENGTH of an erasure; again for more
    seed: int = 0  # of the first picture; the next have the next
    count: int = 1  # how many pictures
    steps: int | None = None  # Euler steps; as many as suit the model without it

    def run(self) -> None:
        if not self.prompt.strip():
            raise InputError("The prompt is empty: say what to draw, such as \"a photo of a cat\".")
        if not 1 <= self.count <= 1000 or not 0 <= self.seed < 2**31 or not 1 <= (self.steps or 1) <= 1000:
            raise InputError("--count and --steps must be from 1 to 1000 and --seed from 0 to 2147483647.")
        loras = [parse_lora(text) for text in self.lora]
        check_picture(self.out)
        pipe = self.source.load(loras)
        check_prompts(pipe, [self.prompt])
        seeds = list(range(self.seed, self.seed + self.count))
        pictures = sample(pipe, [self.prompt] * self.count, seeds, steps=self.steps)
        sheet = contact_sheet(pictures, columns=math.ceil(math.sqrt(self.count)), cell=pictures[0].width)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(self.out)
        print(f"{self.count} picture{'s' * (self.count > 1)}: {self.out}")

@dataclass(frozen=True)
class Attention:
    "Draw where in the picture a word is attended to, over blocks and steps."
    prompt: _Prompt  # what to draw
    word: _Word  # a word or phrase of the prompt
    out: Path = Path("attention.png")  # the picture
    source: _Source = field(default_factory=Source)
    lora: _Loras = ()  # FOLDER or FOLDER:STRENGTH of an erasure; again for more
    seed: int = 0  # of the noise
    steps: int | None = None  # Euler steps; as many as suit the model without it

    def run(self) -> None:
        if not self.prompt.strip() or not self.word.strip():
            raise InputError("Give a prompt and a word that is in it, such as \"a cat in a box\" cat.")
        if not 0 <= self.seed < 2**31 or not 1 <= (self.steps or 1) <= 1000:
            raise InputError("--steps must be from 1 to 1000 and --seed from 0 to 2147483647.")
        loras = [parse_lora(text) for text in self.lora]
        check_picture(self.out)
        pipe = self.source.load(loras)
        check_prompts(pipe, [self.prompt])
        token_positions(pipe.tokenizer_2, self.prompt, self.word)
        maps = heat_maps(pipe, self.prompt, self.word, seed=self.seed, steps=self.steps)
        [picture] = sample(pipe, [self.prompt], [self.seed], steps=self.steps, progress=False)
        figure = plot_heat_maps(maps, picture=picture, title=f'"{self.word}" in "{self.prompt}"')
        self.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.out)
        print(f"Heat maps: {self.out}")


def architecture_table(
    rows: list[dict],  # of `architecture`
) -> str:  # a line for each part with parameters
    "What a transformer is made of, what is trained marked by a star."
    names = ["block", "kind", "projection", "in", "out", "params"]
    table = [names] + [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    stars = [False] + [row["trainable_by_us"] for row in rows]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + " *" * star
             for line, star in zip(table, stars)]
    return "\n".join([*lines, "* what EraseAnything trains"])


@dataclass(frozen=True)
class Probe:
    "Say what a model is made of: every block, projection, shape and parameter count."
    source: _Source = field(default_factory=Source)
    out: Path | None = None  # draw it too

    def run(self) -> None:
        if self.out:
            check_picture(self.out)
        transformer = self.source.load().transformer
        rows = architecture(transformer)
        print(architecture_table(rows))
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            plot_architecture(transformer).savefig(self.out)
            print(f"Picture: {self.out}")

def _subcommands(settings: Settings):
    "The commands, as one type for tyro; `settings` are the defaults of erase."
    erase_default = Erase(concept=tyro.MISSING, settings=settings)
    return Union[
        Annotated[Erase, tyro.conf.subcommand("erase", default=erase_default)],
        Annotated[Sample, tyro.conf.subcommand("sample")],
        Annotated[Attention, tyro.conf.subcommand("attention")],
        Annotated[Probe, tyro.conf.subcommand("probe")],
    ]


def _sentence(box: str) -> str:
    "The message inside tyro's box, in one line."
    lines = [line.strip("│ ") for line in box.splitlines() if line.startswith("│")]
    message = " ".join(itertools.takewhile(lambda line: not line.startswith("──"), lines))
    return f"{message.rstrip('.')}; see eraseanything --help."


def parse(
    words: list[str],  # what stands after `eraseanything`
):
    "The command that these words mean; an InputError when they mean none."
    def read(settings: Settings):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                return tyro.cli(_subcommands(settings), args=words, prog="eraseanything",
                                description="Erase concepts from Flux and other rectified-flow transformers.")
        except SystemExit as leaving:
            if not leaving.code:
                raise
            raise InputError(_sentence(said.getvalue())) from None

    command = read(Settings())
    return read(read_settings(command.config)) if getattr(command, "config", None) else command

def _say(message, *_, **__) -> None:
    print(f"eraseanything: {message}", file=sys.stderr)


def main(
    words: list[str] | None = None,  # the command line's without it
) -> int:  # 0 done, 2 the input was wrong, 1 anything else
    "Run a command."
    os.environ.setdefault("MPLBACKEND", "agg")  # pictures go into files, never onto a screen
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")
        ours = rf"eraseanything|{re.escape(__name__)}"
        warnings.filterwarnings("always", category=UserWarning, module=ours)
        warnings.showwarning = lambda message, category, *_, **__: _say(f"warning: {message}")
        try:
            parse(sys.argv[1:] if words is None else words).run()
            return 0
        except InputError as error:
            _say(error)
            return 2
        except SystemExit as leaving:  # after --help
            return leaving.code or 0
        except KeyboardInterrupt:
            _say("interrupted")
            return 1
        except Exception:
            traceback.print_exc()
            return 1
