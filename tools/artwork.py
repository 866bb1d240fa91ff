"""Make data/artwork from the unpacked npm packages; data/artwork/README.md says which and how to get them.

    python tools/artwork.py GOOGLE TWITTER OPENMOJI [--out data/artwork]

Each sprite of `eraseanything.world.SPRITES` is looked up by its code point, cropped to its drawing and written
under its name. Needs CairoSVG for OpenMoji, which comes as SVG.
"""
import argparse
import io
import sys
from pathlib import Path

from PIL import Image

from eraseanything.world import SPRITES

ROOT = Path(__file__).resolve().parent.parent
RENDERED, LARGEST = 84, 72  # an SVG is drawn at the first size and then reduced to the second, in pixels


def cropped(image: Image.Image) -> Image.Image:
    "The picture without its empty margin."
    image = image.convert("RGBA")
    return image.crop(image.getchannel("A").getbbox())


def find(folder: Path, code: str, ending: str) -> Path | None:
    "The file for a code point: packages disagree on upper case and on the variation selector FE0F."
    bare = code.replace("-fe0f", "")
    for name in (code, bare, f"{code}-fe0f", code.upper(), bare.upper()):
        if (folder / f"{name}.{ending}").is_file():
            return folder / f"{name}.{ending}"
    return None


def read(path: Path) -> Image.Image:
    "A PNG as it is; an SVG rendered."
    if path.suffix == ".png":
        return cropped(Image.open(path))
    import cairosvg
    drawn = cairosvg.svg2png(url=str(path), output_width=RENDERED, output_height=RENDERED)
    image = cropped(Image.open(io.BytesIO(drawn)))
    image.thumbnail((LARGEST, LARGEST))
    return image


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("google", type=Path, help="the unpacked emoji-datasource-google")
    parser.add_argument("twitter", type=Path, help="the unpacked emoji-datasource-twitter")
    parser.add_argument("openmoji", type=Path, help="the unpacked openmoji")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "artwork")
    given = parser.parse_args()
    sources = {"noto": (given.google / "img" / "google" / "64", "png"),
               "twemoji": (given.twitter / "img" / "twitter" / "64", "png"),
               "openmoji": (given.openmoji / "color" / "svg", "svg")}
    found = {(hand, name): find(folder, code, ending)
             for hand, (folder, ending) in sources.items() for name, code in SPRITES.items()}
    missing = [f"{name} by {hand}" for (hand, name), path in found.items() if path is None]
    if missing:
        print(f"Not found, so nothing was written: {', '.join(missing)}.", file=sys.stderr)
        return 2
    for (hand, name), path in found.items():
        (given.out / hand).mkdir(parents=True, exist_ok=True)
        read(path).save(given.out / hand / f"{name.replace(' ', '_')}.png", optimize=True)
    print(f"{len(found)} pictures in {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
