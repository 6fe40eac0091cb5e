"""`mer doctor DATA`: looks at a corpus before a model does, and says what is wrong with it and what to do.

DATA is a manifest.csv, a folder with one, a folder of folders with one each, or a folder of official lists (train and test by
fold). Exit status: 0, or 1 where training and test share what they must not, or 2 for a mistake in the call.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mer.analysis.doctor import label_checks, leaks, lists, media_checks, page, terminal, ward
from mer.analysis.doctor.case import Case
from mer.analysis.doctor.cells import Kind, uses
from mer.analysis.doctor.findings import Finding, accepted, many, merged
from mer.analysis.doctor.summary import Report, Summary, of_case, of_lists
from mer.datasets.manifest import Manifest
from mer.errors import UserError
from mer.files import write_text
from mer.spec import Face

CHECKED = (
    "presence of every file",
    "decoding of every file from its first to its last frame",
    "sound and picture where the manifest names them",
    "silence, clipping, constants",
    "frame rate, gaps, picture size",
    "start and end against the file",
    "words, features, skeletons and gaze",
    "rows without files, files without rows",
    "frame labels against their clips",
    "unlabelled rows and classes by split and fold",
    "people and source videos across splits and folds",
    "one recording on two sides: overlapping stretches, exact copies, and copies by fingerprint",
)


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "mer doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="manifest.csv, or a folder (see above)")
    parser.add_argument("--out", type=Path, help="folder of the page, doctor.json and the cache (doctor/NAME)")
    parser.add_argument("--jobs", type=int, default=2, help="files that are looked into at once (2)")
    parser.add_argument("--quick", action="store_true", help="of media only the headers: no decoding, no fingerprints")
    parser.add_argument(
        "--faces", nargs="?", const="haar", metavar="FILE",
        help="look for faces; with FILE, say 'boxes/{stem}.csv' below the root, in what a detector wrote",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=8, help="clips with fewer are too short (8)")
    parser.add_argument("--fps", type=float, help="frames per second that videos have (default: those of most)")
    parser.add_argument(
        "--kind", nargs="+", default=[], metavar="COLUMN=KIND",
        help="what a column's files are: picture, sound, features, text, skeleton, gaze, other",
    )  # fmt: skip
    parser.add_argument("--accept", nargs="+", default=[], metavar="CODE", help="findings you know: they become notes")
    given = parser.parse_args(argv)
    if given.jobs < 1 or given.frames < 1 or (given.fps is not None and not 0 < given.fps < 10_000):
        raise UserError("--jobs and --frames are at least 1, and --fps is above 0", "Correct the option")
    report, out = examine(given, shlex.join(["mer", "doctor", *argv]))
    write_text(out / "doctor.json", json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    write_text(out / "doctor.html", page.page(report))
    print("\n".join(terminal.lines(report)))
    print(f"{out / 'doctor.html'}, doctor.json")
    return 1 if report.leaks else 0


def examine(given: argparse.Namespace, command: str = "") -> tuple[Report, Path]:
    """The report on what the options name, and the folder for it."""
    data: Path = given.data
    paths = manifests(data)
    official = None if paths else lists.read(data)
    if not paths and official is None:
        raise UserError(
            f"{data}: neither a manifest.csv nor official lists for training and test",
            "Write a manifest with 'mer prepare CORPUS --root R --out D', and name its folder",
        )
    out = given.out or Path("doctor") / (data.resolve().name if data.is_dir() else data.resolve().parent.name)
    if official is not None:
        findings = accepted(lists.check(official), given.accept)
        done = (
            "clips in two parts of one fold, fold by fold",
            "clips that stand twice, labels that differ between lists",
        )
        lacking = ("the recordings: these are lists only",)
        return Report((of_lists(official),), tuple(findings), done, lacking, command), out
    kinds: dict[str, Kind] = dict(_kind(text) for text in given.kind)
    read = [Manifest.read(path) for path in paths]
    found = [tuple(uses(manifest, kinds)) for manifest in read]
    face = _face(given.faces)
    if given.quick and face is not None:
        raise UserError("--quick decodes nothing, and --faces looks at pictures", "Leave one of them out")
    known = ward.examined(
        [(m.corpus.root, u) for m, u in zip(read, found, strict=True)], out / ward.CACHE, given.jobs, given.quick, face
    )
    limits = media_checks.Limits(given.frames, given.fps)
    summaries: list[Summary] = []
    parts: list[tuple[str, Sequence[Finding]]] = []
    for manifest, mine in zip(read, found, strict=True):
        case = Case(manifest, mine, known, given.quick)
        with tqdm(total=len(mine), desc="compare", unit="clip", leave=False, disable=None) as bar:
            shared = leaks.check(case, bar.update)
        parts.append((_name(manifest, data), [
            *media_checks.check(case, limits), *label_checks.check(case), *shared.findings,
        ]))  # fmt: skip
        summaries.append(of_case(case, shared.pairs))
    findings = accepted(merged(parts), given.accept)
    checked, left = _checked(summaries, given.quick, face)
    facts = {"files": f"{len(known.exams):,} looked into, {len(known.missing):,} not there"}
    return Report(tuple(summaries), tuple(findings), checked, left, command, facts), out


def manifests(data: Path) -> list[Path]:
    """The manifests that are meant.

    Raises:
        UserError: there is no such file or folder.
    """
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise UserError(f"{data}: no such file or folder", "Name a manifest.csv, or the folder that holds it")
    if (data / "manifest.csv").is_file():
        return [data / "manifest.csv"]
    return sorted(p for depth in ("*", "*/*") for p in data.glob(f"{depth}/manifest.csv"))


def _name(manifest: Manifest, data: Path) -> str:
    folder = manifest.path.parent
    return folder.relative_to(data).as_posix() if data.is_dir() else folder.name


def _kind(text: str) -> tuple[str, Any]:
    column, mark, kind = text.partition("=")
    if not mark:
        raise UserError(f"--kind {text}", "Write COLUMN=KIND, e.g. --kind voice=sound")
    return column, kind


def _face(wish: str | None) -> Face | None:
    if wish is None:
        return None
    return Face() if wish == "haar" else Face(detector="precomputed", file=wish)


def _checked(summaries: Sequence[Summary], quick: bool, face: Face | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was looked at, and what was not and why."""
    left = []
    columns = [c for s in summaries for c in s.columns]
    media = any(c.there and c.kind in ("sound", "picture") for c in columns)
    checked = list(CHECKED)
    if not any(c.there for c in columns):
        gone = sum(c.files for c in columns)
        why = f"{many(gone, 'file')} of the manifest not here" if gone else "the manifest names none"
        left.append(f"the recordings ({why}): lists only")
        checked = [checked[0], *checked[7:11], "one stretch of one file on two sides, by name"]
    elif quick and media:
        left.append("whatever needs decoding (--quick): broken frames, silence, still pictures, copies by fingerprint")
        checked = [c for c in checked if not c.startswith(("decoding", "silence"))]
        checked[-1] = "one recording on two sides: overlapping stretches and exact copies"
    if face is not None:
        checked.insert(6, f"faces ({face.detector})")
    elif media and any(c.kind == "picture" for c in columns):
        left.append("whether there are faces (--faces)")
    return tuple(checked), tuple(left)
