"""`mer weights list | show | fetch | convert | emert`: published checkpoints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer.encoders import catalogue
from mer.encoders.catalogue import CATALOGUE, Published
from mer.errors import UserError
from mer.files import draft_of

if TYPE_CHECKING:
    from mer.encoders.base import Encoder


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("mer weights", description="The published checkpoints that the encoders take.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | show | fetch | convert | emert")
    commands.add_parser("list", help="all names, with licence and size, and which are on this machine")
    show_ = commands.add_parser("show", help="everything about one: source, licence, keys, lines for a config")
    show_.add_argument("name")
    fetch_ = commands.add_parser(
        "fetch",
        help="download one, or copy it from a mirror",
        description="Download published weights, compare their sha256, keep them where every command finds them. A file"
        " that is on this machine is only compared.",
    )
    fetch_.add_argument("name")
    fetch_.add_argument(
        "--from", dest="mirror", type=Path, metavar="DIR", help="copy from this folder, do not download"
    )
    fetch_.add_argument("--out", type=Path, metavar="DIR", help="put it there, say to fill a mirror (the user's cache)")
    convert_ = commands.add_parser(
        "convert",
        help="take the tensors out of a file that holds more",
        description="Read a file of PyTorch that holds Python objects besides tensors, without running anything in it, and"
        " write its tensors as FILE.safetensors, which every encoder reads as it would the file.",
    )
    convert_.add_argument("file", type=Path)
    convert_.add_argument("--out", type=Path, metavar="FILE", help="the file to write")
    emert_ = commands.add_parser(
        "emert",
        help="turn a published EMERT into a model of mer, or back",
        description="A published file becomes a model that mer predict and mer test take; a model.safetensors of one of"
        " the three (configs/emer) becomes a file as published.",
    )
    emert_.add_argument("file", type=Path)
    emert_.add_argument("--model", choices=("cls", "reg", "intensity"), help="which of the three a published file is")
    emert_.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    options = parser.parse_args(argv)
    if options.command == "list":
        print(table())
    elif options.command == "show":
        print(show(catalogue.known(options.name)))
    elif options.command == "fetch":
        for line in fetch(catalogue.known(options.name), options.mirror, options.out):
            print(line, flush=True)
    elif options.command == "emert":
        print(emert(options.file, options.out, options.model))
    else:
        print(convert(options.file, options.out))
    return 0


# -- list and show -------------------------------------------------------------------------------------------------------


def table() -> str:
    """One line per entry of the catalogue."""
    rows = [("name", "encoder", "MB", "licence", "here")]
    for entry in CATALOGUE.values():
        size = "" if entry.megabytes is None else f"{entry.megabytes:.0f}"
        here = "yes" if catalogue.find(entry) else "" if entry.source else "by hand"
        rows.append((entry.name, entry.encoder.rpartition(".")[2], size, entry.licence, here))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    sides = ("<", "<", ">", "<", "<")
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    )


def show(entry: Published) -> str:
    """Everything about an entry, on many lines."""
    found = catalogue.find(entry)
    source = (
        [f"{entry.source}{name}" for name in (*entry.files, *entry.one_of)] if entry.source else ["by hand, see page"]
    )
    facts = [
        ("about", entry.about),
        ("page", entry.page),
        ("licence", entry.licence),
        *(("source", line) for line in source),
        *(("sha256", f"{digest}{'' if len(digest) == 64 else '...'}  {name}") for name, digest in entry.sha256.items()),
        ("size", "unknown" if entry.megabytes is None else f"{entry.megabytes:.1f} MB"),
        ("here", str(found) if found else f"no; mer weights fetch {entry.name}" if entry.source else
            f"no; put {' and '.join(entry.wanted())} into {folder_of(entry)}"),
        ("encoder", entry.encoder),
    ]  # fmt: skip
    lines = [entry.name]
    lines += [f"  {'' if n and facts[n - 1][0] == key else key:<8} {text}" for n, (key, text) in enumerate(facts)]
    try:
        encoder = built(entry)
    except UserError as error:  # a tokenizer is part of a text network, and comes with its weights
        return "\n".join([*lines, "", f"its encoder cannot be built here: {error}", *config(entry, "text")])
    lines += ["", "keys of the file, by layout (ours -> theirs):"]
    for layout in encoder.tables():
        lines.append(f"  {layout.name}")
        lines += [f"    {pattern} -> {replacement}" for pattern, replacement in layout.pairs]
        lines += [f"    not needed: {pattern} ({reason})" for pattern, reason in layout.unused]
        lines += [f"    may lack: {pattern} ({reason})" for pattern, reason in layout.absent]
    if not encoder.tables():
        lines.append(f"  see {entry.encoder}.load_published")
    return "\n".join([*lines, *config(entry, encoder.spec.kind if hasattr(encoder, "spec") else "joint")])


def config(entry: Published, name: str) -> Iterator[str]:
    """Lines of YAML that use an entry, for an encoder of this name."""
    yield from ("", "in a config:", "  model:", "    encoders:", f"      {name}:")
    yield f"        class_path: {entry.encoder}"
    if entry.init_args:
        yield "        init_args:"
        yield from (f"          {key}: {json.dumps(value)}" for key, value in entry.init_args.items())
    yield f"    encoder_weights: {{{name}{'.' + entry.part if entry.part else ''}: {entry.name}}}"


def built(entry: Published) -> Encoder:
    """The encoder of an entry, without memory for its weights."""
    import torch

    from mer.configured import build
    from mer.encoders.base import Encoder

    with torch.device("meta"):
        description = {"class_path": entry.encoder, "init_args": dict(entry.init_args)}
        return build(description, Encoder, ("mer.encoders",), (), f"the catalogue ({entry.name})")


def folder_of(entry: Published, out: Path | None = None) -> Path:
    """The folder that the files of an entry are put into: the user's cache, if no other."""
    place = entry.place(out or catalogue.folders()[-1])
    return place.parent if entry.single else place


# -- fetch ---------------------------------------------------------------------------------------------------------------


def fetch(entry: Published, mirror: Path | None = None, out: Path | None = None) -> Iterator[str]:
    """Bring an entry onto this machine; yields lines that say what was done."""
    from mer.encoders import fetch as fetching

    folder = out
    if folder is None and mirror is None:  # where it is already, it is only compared
        folder = next((f for f in catalogue.folders() if entry.complete(entry.place(f))), None)
    elsewhere = catalogue.find(entry) if folder is None and mirror is None else None
    if elsewhere is not None:
        yield f"{elsewhere}: already there"
    else:
        yield from fetching.fetch(entry, folder or catalogue.folders()[-1], mirror)
    yield f"licence: {entry.licence}; {entry.page}"


# -- convert -------------------------------------------------------------------------------------------------------------


def convert(path: Path, out: Path | None = None) -> str:
    """Write the tensors of a file, under the keys that `mer.encoders.weights.tensors` gives them, as safetensors.

    Args:
        path: whatever `torch.save` wrote. Nothing in it is run, see `mer.encoders.pickled`.
        out: the file to write; by default `path` with the ending `.safetensors`.

    Returns:
        what was written, and what was left out.

    Raises:
        UserError: not such a file, no tensor in it, or `out` exists.
    """
    import torch
    from safetensors.torch import save_file

    from mer.encoders import pickled, weights

    out = out or path.with_suffix(".safetensors")
    if path.suffix == ".safetensors":
        raise UserError(f"{path}: holds tensors alone", "Use it as it is")
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Give a .pth, .pt, .bin or .ckpt file")
    if out.exists():
        raise UserError(f"{out} exists", "Remove it, or name another file with --out")
    content = pickled.read(path)
    # Each tensor by itself: safetensors keeps neither shared nor scattered memory.
    found = {
        key: tensor.clone(memory_format=torch.contiguous_format)
        for key, tensor in weights.flat(content.value, path).items()
    }
    with draft_of(out) as draft:
        save_file(found, draft, metadata={"format": "pt"})
    lines = [f"{out}: {len(found)} tensors, {sum(t.nbytes for t in found.values()) / 1e6:.1f} MB"]
    if left_out := list(_left_out(content.value, weights.container(content.value))):
        lines.append(f"left out: {', '.join(left_out)}")
    if content.classes:
        lines.append(f"Python objects that were in it, none of them made: {', '.join(content.classes)}")
    return "\n".join(lines)


def _left_out(value: Any, container: str | None) -> Iterator[str]:
    """Names of what a file holds beside the tensors that were kept."""
    for name, part in value.items() if isinstance(value, Mapping) else ():
        tensors, in_lists = _count(part)
        if container is not None and name != container:
            yield f"{name} ({tensors + in_lists} tensors)" if tensors + in_lists else str(name)
        elif in_lists or not tensors:
            yield f"{name} ({in_lists} tensors in lists)" if in_lists else str(name)


def _count(part: Any) -> tuple[int, int]:
    """How many tensors there are in dictionaries, and how many in lists, which have no names for them; each once."""
    counts, seen, waiting = [0, 0], set(), [(part, False)]
    while waiting:
        value, in_list = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            waiting += [(inner, in_list) for inner in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(inner, True) for inner in value]
        else:
            counts[in_list] += hasattr(value, "untyped_storage")
    return counts[0], counts[1]


# -- emert ---------------------------------------------------------------------------------------------------------------


def emert(path: Path, out: Path, which: str | None) -> str:
    """A published EMERT as a model of mer, or one of mer as published.

    Args:
        path: `model.safetensors` of mer, or a published file.
        out: the file to write; a model of mer ends with `.safetensors`, a published file does not.
        which: `cls`, `reg` or `intensity`, for a published file.

    Returns:
        what was done.

    Raises:
        UserError: not such a file, not one of the three models, `which` does not fit, or `out` exists or has a wrong ending.
    """
    from mer import checkpoint, emert_reference

    if out.exists():
        raise UserError(f"{out} exists", "Remove it, or name another file with --out")
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Give a model.safetensors of mer, or a published file")
    ours = checkpoint.facts(path) is not None
    if ours == (out.suffix == ".safetensors"):
        what, ending = ("a published file", ".pth") if ours else ("a model of mer", ".safetensors")
        raise UserError(f"--out {out} is to be {what}", f"Let it end with {ending}")
    if ours:
        if which is not None:
            raise UserError(f"{path} is a model of mer and says itself which it is", "Leave --model out")
        emert_reference.write(out, checkpoint.load(path)[0])
        return f"{out}: as published"
    if which is None:
        raise UserError(f"{path} does not say which of the three models it is", "Add --model cls, reg or intensity")
    model = getattr(emert_reference, f"emert_reference_{which}")()
    report = emert_reference.read(path, model)
    checkpoint.save(out, model, {"weights": path.name})
    return f"{out}: {report}"
