"""The `mer` command: a table from name to module. A command's module is imported when it is called, and not before."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from mer import __version__
from mer.errors import UserError
from mer.preemption import TimeIsUp, remember_signals

COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("mer.experiments.quickstart", "make a synthetic corpus, train, score, predict, report: no download"),
    "prepare": ("mer.datasets.prepare", "write manifest.csv and corpus.yaml for a corpus"),
    "doctor": ("mer.analysis.doctor.command", "broken files, leaks, duplicates, classes, lengths: is a corpus sound?"),
    "extract": ("mer.datasets.extract", "run encoders over a manifest, keep their tokens in a store"),
    "store": ("mer.datasets.store_command", "check, pack or list a feature store"),
    "weights": ("mer.weights_command", "list, show, fetch or convert published weights"),
    "fit": ("mer.experiments.training:fit", "train a model from a config"),
    "validate": ("mer.experiments.training:validate", "score a checkpoint on the validation split"),
    "test": ("mer.experiments.training:test", "open the test split, write the score file"),
    "crossval": ("mer.experiments.crossval", "train and score every fold, with intervals and baselines"),
    "compare-fusions": (
        "mer.experiments.compare_fusions",
        "every fusion on one corpus: means, intervals, paired tests, cost",
    ),
    "look": ("mer.analysis.look", "one page per clip: faces, tracks, crops, skeleton, motion, speech"),
    "predict": ("mer.inference.predict", "video files in; probabilities, frame timeline and picture out"),
    "evaluate": ("mer.evaluation.evaluate", "metrics with intervals from a score file"),
    "bench": ("mer.experiments.bench", "how fast media are read and encoders run on this machine"),
    "compare": ("mer.evaluation.compare", "paired bootstrap between two score files"),
}

_GROUPS = (
    ("start", ("quickstart", "prepare", "doctor")),
    ("features", ("look", "weights", "extract", "store")),
    ("train", ("fit", "validate", "test", "crossval", "compare-fusions")),
    ("use", ("predict", "evaluate", "compare", "bench")),
)

_LIGHTNING = ("quickstart", "fit", "validate", "test", "crossval", "compare-fusions")


def usage() -> str:
    """The help page."""
    lines = ["mer: multimodal emotion recognition from video", "", "usage: mer COMMAND [options]", ""]
    for title, names in _GROUPS:
        lines.append(f"{title}:")
        lines += [f"  {name:<17}{COMMANDS[name][1]}" for name in names]
        lines.append("")
    return "\n".join([*lines, "mer COMMAND --help explains a command; mer --version prints the version."])


def main(argv: list[str] | None = None) -> int:
    """Entry point. Exit status 0 for success, 1 for a finding, 2 for a user's mistake, 130 for an interruption."""
    if "" not in sys.path:
        sys.path.append("")  # encoders and fusions of one's own, in the working directory; behind all that is installed
    remember_signals()  # first of all: a signal that comes during the imports must not kill the job
    argv = sys.argv[1:] if argv is None else argv
    named = f"mer {argv[0]}" if argv else "mer"
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{named}: {error}", file=sys.stderr)
        return 2
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        print(
            f"{named}: {error.filename}: {error.strerror}. Use another path, or change its permissions.",
            file=sys.stderr,
        )
        return 2
    except TimeIsUp:  # saved and requeued
        return 0
    except KeyboardInterrupt:
        print(f"\n{named}: interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `mer ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"mer {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"mer: there is no command {argv[0]!r}. Use one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    if argv[0] in _LIGHTNING and importlib.util.find_spec("torchvision") is not None:
        from mer.encoders import foreign

        foreign.mend()  # Lightning imports it where it is installed, and its wheel does not import beside a torch for CPUs
    module, _, function = COMMANDS[argv[0]][0].partition(":")
    run = getattr(importlib.import_module(module), function or "main")
    return int(run(argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
