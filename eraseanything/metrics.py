import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import mean

import torch
from PIL import Image

from .attacks import attacked_prompts, wilson_interval
from .bilevel import EraseConfig, loaded_adapters, peak_memory_mb, without_adapters
from .concepts import fill, find_concept, preserve_prompts, world_concepts
from .flux import InputError, sample

def judge_folder() -> Path:  # inside the package
    "Where the judge of the embedded model is."
    return Path(str(files("eraseanything"))) / "weights" / "judge"


class Judge:
    "A CLIP that says what pictures show."

    def __init__(self, model, tokenizer, processor, name: str):
        self.model, self.tokenizer, self.processor, self.name = model.eval(), tokenizer, processor, name
        self._texts = {}  # sentence -> its unit-length embedding: classes are asked for again and again

    @classmethod
    def load(cls, folder: str | Path | None = None, device: str = "cpu") -> "Judge":
        "The judge of the embedded model, or any CLIP: a folder or a hub id."
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel
        source = str(folder or judge_folder())
        try:
            model = CLIPModel.from_pretrained(source).to(device)
            tokenizer = AutoTokenizer.from_pretrained(source)
            processor = AutoImageProcessor.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise InputError(f"There is no usable CLIP at {source}: give a folder saved by transformers, or "
                             f"a hub id such as openai/clip-vit-base-patch32.") from error
        return cls(model, tokenizer, processor, Path(source).name)

    @torch.no_grad()
    def embed_images(self, images: list[Image.Image], batch_size: int = 64) -> torch.Tensor:
        "Unit-length embeddings, [N, D]."
        rows = []
        for start in range(0, len(images), batch_size):
            batch = [image.convert("RGB") for image in images[start:start + batch_size]]
            pixels = self.processor(batch, return_tensors="pt")["pixel_values"].to(self.model.device)
            rows.append(self.model.get_image_features(pixel_values=pixels).pooler_output)
        return torch.nn.functional.normalize(torch.cat(rows).float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        "Unit-length embeddings, [N, D]; a text longer than the model reads is cut, its end mark kept."
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            longest = self.model.config.text_config.max_position_embeddings
            tokens = self.tokenizer(new, padding=True, truncation=True, max_length=longest,
                                    return_tensors="pt")
            tokens = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            rows = self.model.get_text_features(**tokens).pooler_output
            self._texts.update(zip(new, torch.nn.functional.normalize(rows.float(), dim=-1)))
        return torch.stack([self._texts[text] for text in texts])

    @torch.no_grad()
    def classify(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        "How much the judge believes in each prompt for each picture, [N, K], rows sum to one."
        cosines = self.embed_images(images) @ self.embed_texts(prompts).T
        return (self.model.logit_scale.exp() * cosines).softmax(-1).cpu()

    @torch.no_grad()
    def clip_score(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        "100 times the cosine of each picture with its own prompt, [N]."
        return (100 * (self.embed_images(images) * self.embed_texts(prompts)).sum(-1)).cpu()

def interval(
    successes: list,  # one true or false value a picture
) -> tuple[float, float]:  # low, high; (0, 1) when nothing was measured
    "Wilson's 95% interval for the fraction of successes."
    return wilson_interval(sum(map(bool, successes)), len(successes))


def kept_share(
    after: list,  # one true or false value a picture
    before: list,  # the same pictures' values for the untouched model
    groups: list,  # what stands or falls together: the concept of each picture
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float] | None:  # value, low, high; nothing when there was nothing to keep
    "The share of the accuracy that is kept, with a bootstrap interval over groups."
    counts = defaultdict(lambda: [0, 0])
    for hit, had, group in zip(after, before, groups, strict=True):
        counts[group][0] += bool(hit)
        counts[group][1] += bool(had)
    rows = list(counts.values())
    if not sum(had for _, had in rows):
        return None
    rng = random.Random(seed)
    shares = []
    for _ in range(draws):
        drawn = rng.choices(rows, k=len(rows))
        if had := sum(had for _, had in drawn):
            shares.append(sum(hit for hit, _ in drawn) / had)
    shares.sort()
    value = sum(hit for hit, _ in rows) / sum(had for _, had in rows)
    return value, shares[int(0.025 * len(shares))], shares[min(len(shares) - 1, int(0.975 * len(shares)))]

@dataclass(frozen=True)
class Question:
    "What to draw, and what the judge should be asked about it."
    group: str  # "concept", "synonym", "irrelevant" or the name of an attack
    prompt: str
    seed: int
    answer: str  # the concept that the prompt means
    kind: str  # the classes to offer: all concepts of this kind
    sentence: str  # how the judge is told of the answer
    seen: bool = False  # whether the preserve step trained on it


def prompts_of(
    template: str,  # with {} where the word goes
    word: str,
    count: int = 3,  # how many wordings, if there are so many
) -> list[str]:
    "Different wordings with the same word."
    plain = fill(template, word)
    wordings = [plain]
    if template == "a photo of a {}":
        wordings += [plain.replace("a photo", "a picture", 1), plain.replace("a photo", "an image", 1)]
        colours = ("white", "yellow", "green", "blue", "pink")
        wordings += [f"{plain} against a {colour} background" for colour in colours]
    return wordings[:count]

def entry_of(
    concept,  # a `Concept`
) -> dict:  # name, kind, template
    "The concept as the world has it, or as it describes itself when the world does not know it."
    for entry in world_concepts():
        if entry["name"] == concept.name.lower():
            return entry
    return {"name": concept.name, "kind": concept.kind, "template": concept.templates[0]}


def other_prompts(
    concept,  # the erased `Concept`
    each: int = 4,  # how many of every other kind
    seed: int = 0,  # of the choice
) -> list[tuple[str, dict]]:  # prompt, and the concept that it means
    "Prompts that the erasure should leave alone: all concepts of the same kind and some of every other."
    known, own = {entry["name"]: entry for entry in world_concepts()}, entry_of(concept)
    words = {word: prompt for prompt, word in preserve_prompts(concept, max(len(known), 40))}
    kinds = defaultdict(list)
    for word in sorted(words):
        entry = known.get(word) if own["name"] in known else None
        entry = entry or {"name": word, "kind": own["kind"], "template": own["template"]}
        kinds[entry["kind"]].append((words[word], entry))
    rng = random.Random(seed)
    chosen = kinds.pop(own["kind"], [])[:20]
    for kind in sorted(kinds):
        chosen += rng.sample(kinds[kind], min(each, len(kinds[kind])))
    return chosen

def questions(
    concept,  # the erased `Concept`
    seeds: int = 3,  # pictures for each wording
    first_seed: int = 1_000_000,  # apart from the seeds that the erasure trained on
    wordings: int = 3,  # wordings for each word
    attacks: dict | None = None,  # name -> function of (prompt, phrase, seed); none without it
    seen: set[str] = frozenset(),  # names that the preserve step trained on
) -> list[Question]:
    "Everything to ask about the erasure of one concept."
    own, asked = entry_of(concept), []

    def ask(group: str, prompts: list[str], about: dict) -> None:
        sentence = fill(about["template"], about["name"])
        name, kind = about["name"], about["kind"]
        asked.extend(Question(group, prompt, seed, name, kind, sentence, name in seen)
                     for prompt in prompts for seed in range(first_seed, first_seed + seeds))

    ask("concept", prompts_of(own["template"], own["name"], 2 * wordings), own)
    for synonym in concept.synonyms[:3]:
        ask("synonym", prompts_of(own["template"], synonym, wordings), own)
    plain = [(prompt, own["name"]) for prompt in prompts_of(own["template"], own["name"], wordings)]
    for attack, prompt, _, _ in attacked_prompts(plain, attacks or {})[len(plain):]:
        ask(attack, [prompt], own)
    for prompt, other in other_prompts(concept):
        ask("irrelevant", [prompt], other)
    return asked

NOTHING = "a photo of nothing"  # offered with every kind of class


@dataclass(frozen=True)
class Answer:
    "What the judge said to a question."
    hit: bool  # the class that was meant won
    probability: float  # belief in it
    winner: str  # the class that won


def answer_all(
    judge: Judge,
    images: list[Image.Image],  # one for each question
    asked: list[Question],
) -> list[Answer]:
    "Let the judge say which class of the question's kind each picture shows."
    answers = [None] * len(asked)
    for kind in dict.fromkeys(question.kind for question in asked):
        rows = [row for row, question in enumerate(asked) if question.kind == kind]
        sentences = {entry["name"]: fill(entry["template"], entry["name"]) for entry in world_concepts(kind)}
        sentences |= {asked[row].answer: asked[row].sentence for row in rows} | {"nothing": NOTHING}
        classes = list(sentences)
        beliefs = judge.classify([images[row] for row in rows], list(sentences.values()))
        for row, belief in zip(rows, beliefs):
            meant = classes.index(asked[row].answer)
            winner = int(belief.argmax())
            answers[row] = Answer(winner == meant, float(belief[meant]), classes[winner])
    return answers


def clip_accuracy(
    judge: Judge,
    images: list[Image.Image],
    asked: list[Question],  # one for each picture
) -> dict:  # value, low, high, probability, count
    "The fraction of pictures that show what was meant, with its interval and the mean belief."
    answers = answer_all(judge, images, asked)
    return _fraction(answers)


def _fraction(answers: list[Answer]) -> dict:
    "The fraction of hits with Wilson's interval, and the mean belief."
    if not answers:
        return {"value": None, "low": 0.0, "high": 1.0, "probability": None, "count": 0}
    hits = [answer.hit for answer in answers]
    low, high = interval(hits)
    belief = mean(answer.probability for answer in answers)
    return {"value": mean(hits), "low": low, "high": high, "probability": belief, "count": len(hits)}

def seen_names(
    concept,  # the erased `Concept`
    config: EraseConfig,  # how it was erased
) -> set[str]:  # words
    "Whose velocities the preserve step trained on."
    return {word for _, word in preserve_prompts(concept, config.preserve_prompts, config.seed)}

def summarise(
    asked: list[Question],
    answers: list[Answer],
) -> dict:  # acc_e, acc_ir, acc_g, acc_unseen, asr and their intervals
    "Count the answers into the scores of one model."
    def pick(wanted) -> dict:
        return _fraction([answer for question, answer in zip(asked, answers) if wanted(question)])

    parts = {
        "acc_e": pick(lambda q: q.group == "concept"),
        "acc_ir": pick(lambda q: q.group == "irrelevant"),
        "acc_g": pick(lambda q: q.group == "synonym"),
        "acc_unseen": pick(lambda q: q.group == "irrelevant" and not q.seen),
    }
    attacks = dict.fromkeys(q.group for q in asked if q.group not in ("concept", "irrelevant", "synonym"))
    asr = {attack: pick(lambda q: q.group == attack) for attack in attacks}
    scores = {name: part["value"] for name, part in parts.items()}
    scores["asr"] = {name: part["value"] for name, part in asr.items()}
    scores["intervals"] = {name: [part["low"], part["high"]] for name, part in {**parts, **asr}.items()}
    scores["probability"] = {name: part["probability"] for name, part in parts.items()}
    scores["count"] = {name: part["count"] for name, part in {**parts, **asr}.items()}
    return scores

def score_erasure(
    pipe,  # a FluxPipeline whose transformer carries the erasure's adapter
    concept,  # the erased concept: a name or a `Concept`
    judge: Judge | None = None,  # the judge of the embedded model without it
    seeds: int = 3,  # pictures for each wording
    wordings: int = 3,
    attacks: dict | None = None,  # name -> function of (prompt, phrase, seed)
    seen: set[str] = frozenset(),  # names that the preserve step trained on
    steps: int | None = None,  # sampling steps; the model's own without it
    batch_size: int = 16,
    progress: bool = True,
) -> dict:  # what scores.json holds
    "Score an erasure against the untouched model, on the same prompts and seeds."
    start = time.time()
    concept = find_concept(concept) if isinstance(concept, str) else concept
    if not loaded_adapters(pipe.transformer):
        raise InputError("There is nothing to score: the pipeline carries no adapter; erase a concept first.")
    judge = judge or Judge.load()
    asked = questions(concept, seeds=seeds, wordings=wordings, attacks=attacks, seen=seen)

    def run() -> list[Answer]:
        prompts, numbers = [q.prompt for q in asked], [q.seed for q in asked]
        images = sample(pipe, prompts, numbers, steps=steps, batch_size=batch_size, progress=progress)
        return answer_all(judge, images, asked)

    erased = run()
    with without_adapters(pipe.transformer):
        base = run()
    rows = [row for row, question in enumerate(asked) if question.group == "irrelevant"]
    kept = kept_share([erased[row].hit for row in rows], [base[row].hit for row in rows],
                      [asked[row].answer for row in rows])
    return {"concept": concept.name, **summarise(asked, erased), "base": summarise(asked, base), "kept": kept,
            "judge": judge.name, "seeds": seeds,
            "seconds": round(time.time() - start, 1), "peak_memory_mb": round(peak_memory_mb())}
