"""`mer prepare CORPUS --root R --out D`: an official download becomes a manifest."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from mer.errors import UserError

# One reader per corpus: a module with `prepare(root, out, skip_errors) -> (clips, what was left out)`.
READERS = {"ravdess": "mer.datasets.ravdess", "utd_mhad": "mer.datasets.utd_mhad"}


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("mer prepare", description="Write manifest.csv and corpus.yaml for a corpus.")
    parser.add_argument("corpus", choices=[*READERS, "synthetic"], help="which corpus")
    parser.add_argument("--root", type=Path, help="folder of the official download or of its packaged form")
    parser.add_argument("--out", type=Path, required=True, help="folder for manifest.csv and corpus.yaml")
    parser.add_argument("--subjects", type=int, default=24, help="synthetic only: number of people")
    parser.add_argument("--seed", type=int, default=0, help="synthetic only")
    parser.add_argument("--skip-errors", action="store_true", help="list recordings that cannot be read, and go on")
    options = parser.parse_args(argv)
    if options.corpus == "synthetic":
        from mer.datasets.synthetic import generate

        generate(options.out, subjects=options.subjects, seed=options.seed)
        print(f"{options.out / 'manifest.csv'}: a synthetic corpus of {options.subjects} people")
        return 0
    if options.root is None:
        raise UserError(f"mer prepare {options.corpus} needs the recordings", "Pass their folder with --root")
    reader = importlib.import_module(READERS[options.corpus])
    count, left_out = reader.prepare(options.root, options.out, options.skip_errors)
    print(f"{options.out / 'manifest.csv'}: {count} clips")
    if left_out:
        print(f"{len(left_out)} recording(s) were left out:")
        for name, why in left_out.items():
            print(f"  {name}: {why}")
    return 1 if left_out else 0
