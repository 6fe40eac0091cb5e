"""`mer bench media`: how fast videos, caches, faces and features are read here, each beside what it should be held against.
`mer bench data`: how fast cached features become batches, and how fast a manifest of 100,000 clips is read.
`mer bench encoders`: what each encoder costs, beside the library that has it.
`mer bench fusion`: what each fusion costs against tokens and modalities; EMERT beside its formulas.
`mer bench events`: eye movements as detected here beside human raters.
"""

from __future__ import annotations

import argparse
import io
import platform
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from mer.errors import UserError
from mer.experiments.bench_cache import cache_rows, face_rows
from mer.experiments.bench_data import loader_rows, manifest_rows
from mer.experiments.bench_events import event_table
from mer.experiments.bench_media import Row, decode_rows
from mer.experiments.bench_store import extract_rows, store_rows

DATA: dict[str, Callable[[Path], list[Row]]] = {"loader": loader_rows, "manifest": manifest_rows}
PARTS: dict[str, Callable[[Path], list[Row]]] = {
    "decode": decode_rows,
    "cache": cache_rows,
    "faces": face_rows,
    "extract": extract_rows,
    "store": store_rows,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="mer bench", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="media | data | encoders | fusion | events")
    media = commands.add_parser("media", help="decoding, frame cache, faces, extraction, store")
    media.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="only these parts")
    media.add_argument("--folder", type=Path, help="where test files are kept for the next time (1 GB; else removed)")
    data = commands.add_parser("data", help="samples per second of a warm loader; a manifest of 100,000 clips")
    data.add_argument("--part", nargs="+", choices=list(DATA), default=list(DATA), help="only these parts")
    data.add_argument("--folder", type=Path, help="where test files are kept for the next time (0.4 GB; else removed)")
    encoders = commands.add_parser(
        "encoders", help="parameters, multiplications, time and memory of each, and its library's"
    )
    encoders.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only those with this in their names")
    encoders.add_argument("--repeats", type=int, default=5, help="of each forward pass; the least stands (5)")
    encoders.add_argument("--threads", type=int, help="of torch")
    encoders.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    fusion = commands.add_parser("fusion", help="time against tokens (64 to 4,096) and modalities (2 to 6)")
    fusion.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only those with this in their names")
    fusion.add_argument("--repeats", type=int, default=5, help="of each forward pass; the least stands (5)")
    events = commands.add_parser("events", help="agreement of the detectors of eye movements with human raters")
    events.add_argument(
        "file", type=Path, help="recordings that people labelled, .npz; see mer.experiments.bench_events"
    )
    given = parser.parse_args(argv)
    if given.what == "events":
        print(event_table(given.file))
        return 0
    print(f"{platform.machine()}, Python {platform.python_version()}; the least or median of repeats, engines in turns")
    if given.what == "encoders":
        if given.repeats < 1 or (given.threads or 1) < 1:
            raise UserError(f"--repeats {given.repeats}, --threads {given.threads}", "Use at least 1 of each")
        from mer.experiments import bench_encoders

        for line in bench_encoders.report(given.only, given.repeats, given.threads, given.json):
            print(line, flush=True)
        return 0
    if given.what == "fusion":
        if given.repeats < 1:
            raise UserError(f"--repeats {given.repeats}", "Use at least 1")
        from mer.experiments import bench_fusion

        for line in bench_fusion.report(given.only, given.repeats):
            print(line, flush=True)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--folder {folder}: {error.strerror}", "Name a folder that can be written") from None
        for part in given.part:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # progress of what is measured
                rows = (DATA if given.what == "data" else PARTS)[part](folder)
            print(table(rows), flush=True)
    return 0


def table(rows: Sequence[Row]) -> str:
    """Aligned text, a block per job."""
    wide = max(len(row.what) for row in rows)
    lines: list[str] = []
    for number, row in enumerate(rows):
        if not number or row.name != rows[number - 1].name:
            lines += ["", row.name]
        ratio = "" if row.ratio is None else f"{row.ratio:8.2f} x"
        lines.append(f"  {row.what:<{wide}}  {row.value:>10.3g} {row.unit:<7}{ratio}".rstrip())
    return "\n".join(lines)
