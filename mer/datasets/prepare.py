"""`mer prepare CORPUS --root R --out D`: an official download becomes a manifest; `--synthetic N` writes a twin of one."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from mer.datasets.corpora.reading import Prepared, Request
from mer.errors import UserError

# Per corpus one module in `mer.datasets.corpora`, with `read(request) -> Prepared` and, where it has options of its own,
# `options(parser)`; and one in `mer.datasets.twins`, with `write(out, count, seed)`.
CORPORA: dict[str, str] = {
    "eye_ier": "18 people under 5 loads: pupils and how far the eyes are open",
    "bah": "300 people answer 7 questions: ambivalence and hesitancy, by clip and by frame; video, faces, words",
    "dfew": "11,697 clips of films, 7 emotions: faces, sound",
    "ferv39k": "38,935 clips of 22 scenes, 7 emotions: faces",
    "mafw": "9,172 clips of films and shows, 11 emotions: faces, sound, captions",
    "imigue": "micro-gestures and match outcomes in interviews: picture, skeletons",
    "emer": "1,303 clips of 121 people watching films: face, eye movement, gaze; what they felt and what they showed",
    "ravdess": "24 actors, 8 emotions: sound and picture",
    "ravdess_posteriors": "what published networks said of RAVDESS, fold by fold: for late fusion",
    "utd_mhad": "27 actions of 8 people: Kinect skeletons",
    "crema_d": "91 actors, 6 emotions: sound and picture",
    "emodb": "10 actors, 7 emotions: German speech",
    "mosi": "film reviews, sentiment: recordings or features",
    "mmmo": "film reviews, sentiment: features",
    "meld": "dialogues, 7 emotions: words, sound, picture",
    "folder": "your own clips, in folders or in a table",
}
_STATUS = "Exit status: 0; 1 where recordings were left out (--skip-errors); 2 where nothing was written."


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "mer prepare",
        description="Write manifest.csv and corpus.yaml for a corpus, or with --synthetic a small twin of its download.",
        epilog="\n".join(["corpora:", *(f"  {name:<10} {what}" for name, what in CORPORA.items()), "", _STATUS]),
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-h", "--help", action="store_true", help="this page; with a corpus, its own options, too")
    parser.add_argument("corpus", choices=[*CORPORA, "synthetic"], nargs="?", help="which corpus", metavar="CORPUS")
    parser.add_argument("--root", type=Path, help="folder of the official download or of its packaged form")
    parser.add_argument("--out", type=Path, help="folder for manifest.csv and corpus.yaml, or for the twin")
    parser.add_argument("--skip-errors", action="store_true", help="list recordings that cannot be read, and go on")
    parser.add_argument("--synthetic", type=int, metavar="N", help="write a made-up download of N people to --out")
    parser.add_argument("--subjects", type=int, default=24, help="CORPUS 'synthetic' only: number of people")
    parser.add_argument("--seed", type=int, default=0, help="of what is made up")
    corpus = parser.parse_known_args(argv)[0].corpus
    reader = importlib.import_module(f"mer.datasets.corpora.{corpus}") if corpus in CORPORA else None
    if reader is not None:
        parser.epilog = f"{(reader.__doc__ or '').strip()}\n\n{_STATUS}"
    if hasattr(reader, "options"):
        reader.options(parser.add_argument_group(corpus))  # type: ignore[union-attr]
    options = parser.parse_args(argv)
    if options.help:
        parser.print_help()
        return 0
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}", "Give 0 or more")
    if corpus is None or options.out is None:
        parser.error("CORPUS and --out are needed")
    if corpus == "synthetic":
        from mer.datasets.synthetic import generate

        generate(options.out, subjects=options.subjects, seed=options.seed)
        print(f"{options.out / 'manifest.csv'}: a synthetic corpus of {options.subjects} people")
        return 0
    if options.synthetic is not None:
        return _twin(corpus, options.out, options.synthetic, options.seed)
    if options.root is None:
        raise UserError(
            f"mer prepare {corpus} needs the recordings",
            "Pass their folder with --root, or make some with --synthetic 6",
        )
    request = Request(options.root, options.out, options.skip_errors, options)
    request.folder()
    prepared: Prepared = reader.read(request)  # type: ignore[union-attr]
    prepared.write(options.out)
    for name, part in {"": prepared, **prepared.parts}.items():
        if part.rows:
            print(f"{options.out / name / 'manifest.csv'}: {len(part.rows)} clips")
    for note in prepared.notes:
        print(f"  {note}")
    if prepared.left_out:
        print(f"{len(prepared.left_out)} recording(s) were left out:")
        for name, why in prepared.left_out.items():
            print(f"  {name}: {why}")
    return 1 if prepared.left_out else 0


def _twin(corpus: str, out: Path, people: int, seed: int) -> int:
    """A tree in the layout of the official download."""
    if people < 1:
        raise UserError(f"--synthetic {people}", "Give a number of people, e.g. 6")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: there is something here already", "Choose an empty folder")
    importlib.import_module(f"mer.datasets.twins.{corpus}").write(out, people, seed)
    print(f"{out}: a synthetic twin of {corpus}; nobody in it is real. Go on with")
    print(f"  mer prepare {corpus} --root {out} --out data/{corpus}")
    return 0
