"""What encoders cost: parameters, multiplications, milliseconds and memory per clip, beside the libraries that have them.

Each row is measured in a process of its own. Ours and the library's run in turns, on the same weights where the library takes
them, and the least of the repeats stands: other work on the machine only ever adds. What ours is given is what it is given in
training (bytes of pictures, a waveform), so that its preparation counts; the library gets its tensors ready.

Memory is what the process grew by at most during a forward pass in fp32 (the kernel's high-water mark, reset before it),
without the weights. bf16 is autocast. Errors are relative: the norm of the difference over the norm.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from mer import skeletons
from mer.encoders import Encoder, foreign, weights
from mer.encoders import library as transformers
from mer.encoders.agcn import AGCN, adjacency
from mer.errors import UserError
from mer.files import write_text
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

Run = Callable[[], Any]


@dataclass(frozen=True)
class Subject:
    """Something to measure.

    Attributes:
        encoder: its name in the table.
        clip: what it is given, in words.
        ours: builds it, gives the module and a forward pass.
        library: name of the package that has it, None where none does.
        theirs: from our module, the package's forward pass in its plain form, and its best form for bf16 if that is another.
    """

    encoder: str
    clip: str
    ours: Callable[[], tuple[nn.Module, Run]]
    library: str | None = None
    theirs: Callable[[Any], Sequence[Run]] | None = None


@dataclass(frozen=True)
class Cost:
    """A row of the table; None where there is nothing to compare with.

    Attributes:
        encoder, clip: as of the subject.
        parameters: number.
        gmacs: multiplications and additions of a forward pass, in units of 1e9.
        fp32, bf16: milliseconds.
        memory: MB, see the module; None where the system does not say.
        error: of our bf16 against our fp32.
        library: the package; or why it was not run.
        library_fp32, library_bf16: milliseconds; the latter of its best form.
        difference: of our fp32 against the library's, where it has our weights.
    """

    encoder: str
    clip: str
    parameters: int
    gmacs: float
    fp32: float
    bf16: float
    memory: float | None
    error: float
    library: str = ""
    library_fp32: float | None = None
    library_bf16: float | None = None
    difference: float | None = None


def report(only: Sequence[str], repeats: int, threads: int | None, out: Path | None) -> Iterator[str]:
    """Measure, and give the table line by line.

    Args:
        only: names, or parts of names, of encoders; all where it is empty.
        repeats: of each forward pass.
        threads: of torch; its own choice where None.
        out: a JSON file to write as well.

    Raises:
        UserError: no encoder has such a name.
    """
    chosen = [n for n, s in enumerate(SUBJECTS) if not only or any(part.lower() in s.encoder.lower() for part in only)]
    if not chosen:
        names = ", ".join(subject.encoder for subject in SUBJECTS)
        raise UserError(f"no encoder is named {' or '.join(only)}", f"Use parts of these names: {names}")
    costs: list[Cost] = []
    for number in tqdm(chosen, "bench encoders", leave=False):
        try:
            # A fresh process each: what one leaves in memory, or breaks, is not the next one's.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                costs.append(pool.submit(measured, number, repeats, threads).result())
        except BrokenProcessPool:
            yield f"{SUBJECTS[number].encoder}: its process died, most likely for want of memory"
        except Exception as error:  # libraries fail as they like; the other rows are worth having
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            yield f"{SUBJECTS[number].encoder}: {' '.join(said.split())[:200]}"
        if out is not None:  # after each row: an interruption loses none
            write_text(out, json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    if costs:
        yield from table(costs)


def table(costs: Iterable[Cost]) -> Iterator[str]:
    """Aligned lines. Ratios say how many times quicker ours is: fp32 to fp32, bf16 to the best bf16, bf16 to fp32."""
    head = "encoder,clip,M par.,GMACs,fp32 ms,bf16 ms,MB,error,library,fp32 ms,bf16 ms,fp32 x,bf16 x,b/f x,differs"
    rows = [head.split(",")]
    for c in costs:
        row = [c.encoder, c.clip, f"{c.parameters / 1e6:.2f}", f"{c.gmacs:.2f}", f"{c.fp32:.1f}", f"{c.bf16:.1f}"]
        row += ["" if c.memory is None else f"{c.memory:.0f}", f"{c.error:.1e}", c.library]
        if c.library_fp32 is not None and c.library_bf16 is not None:
            row += [f"{c.library_fp32:.1f}", f"{c.library_bf16:.1f}"]
            row += [
                f"{c.library_fp32 / c.fp32:.2f}",
                f"{c.library_bf16 / c.bf16:.2f}",
                f"{c.library_fp32 / c.bf16:.2f}",
            ]
            row.append("" if c.difference is None else f"{c.difference:.0e}")
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            f"{cell:{'<' if column in (0, 1, 8) else '>'}{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


# -- measuring -----------------------------------------------------------------------------------------------------------


def measured(number: int, repeats: int, threads: int | None) -> Cost:
    """The row of `SUBJECTS[number]`, measured in this process."""
    if threads is not None:
        torch.set_num_threads(threads)
    return measure(SUBJECTS[number], repeats)


def measure(subject: Subject, repeats: int) -> Cost:
    """Measure a subject."""
    torch.manual_seed(0)
    module, ours = subject.ours()
    module.eval()
    with torch.inference_mode():
        memory = _grown(ours)
    exact, half = _outcome(ours), _outcome(ours, bf16=True)
    cost = Cost(
        encoder=subject.encoder,
        clip=subject.clip,
        parameters=sum(p.numel() for p in module.parameters()),
        gmacs=_gmacs(ours),
        fp32=0.0,
        bf16=0.0,
        memory=memory,
        error=_relative(half, exact),
        library=subject.library or "none",
    )
    runs: dict[str, tuple[Run, bool]] = {"fp32": (ours, False), "bf16": (ours, True)}
    difference = None
    if subject.theirs is not None:
        try:
            plain, *best = subject.theirs(module)
        except UserError as error:
            cost = replace(cost, library=f"{subject.library}: {error.problem}")
        else:
            runs |= {"library_fp32": (plain, False), "library_bf16": (plain, True)}
            runs |= {f"library_bf16 {n}": (run, True) for n, run in enumerate(best)}
            theirs = _outcome(plain)
            difference = _relative(exact, theirs) if theirs.shape == exact.shape else None
    least = _least(runs, repeats)
    best_half = [spent for name, spent in least.items() if name.startswith("library_bf16")]
    return replace(
        cost,
        difference=difference,
        fp32=least["fp32"],
        bf16=least["bf16"],
        library_fp32=least.get("library_fp32"),
        library_bf16=min(best_half, default=None),
    )


def _least(runs: Mapping[str, tuple[Run, bool]], repeats: int) -> dict[str, float]:
    """Milliseconds of each, taking turns, after one turn that does not count."""
    least = dict.fromkeys(runs, float("inf"))
    for turn in range(repeats + 1):
        for name, (run, bf16) in runs.items():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                began = time.perf_counter()
                run()
                spent = 1e3 * (time.perf_counter() - began)
            least[name] = min(least[name], spent) if turn else float("inf")
    return least


def _outcome(run: Run, bf16: bool = False) -> Tensor:
    """What a forward pass gives, as one float32 tensor without dimensions of size 1."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        given = run()
    values = given.values if isinstance(given, Tokens) else given
    assert isinstance(values, Tensor)
    return values.float().squeeze()


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _gmacs(run: Run) -> float:
    # The counter knows no fused attention of CPUs; its plain form is two products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops() / 2e9)


def _grown(run: Run) -> float | None:
    """MB that the process grows by at most during a call; None where the system does not say (only Linux does)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark becomes what there is now
    except OSError:
        return None
    before = _high_water()
    run()
    return (_high_water() - before) / 1e3


def _high_water() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="ignore").splitlines()
    return next(float(line.split()[1]) * 1.024 for line in lines if line.startswith("VmHWM"))


# -- what is measured ----------------------------------------------------------------------------------------------------


_SCREEN = {"width_cm": 50.0, "height_cm": 30.0, "distance_cm": 60.0, "unit": "norm"}
_AST = 400 + 1023 * 160  # samples that make its 1024 frames


def clip(spec: InputSpec, count: int) -> Sampled:
    """One clip of so many elements: noise, all real."""
    generator = torch.Generator().manual_seed(1)
    shape = (1, count, *spec.item_shape())
    if spec.kind == "video":
        values = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    elif spec.kind == "text":
        words = torch.tensor([list(f"word{n % 50}".encode().ljust(spec.width or 1, b"\0")) for n in range(count)])
        values = words[None].to(torch.uint8)
    elif spec.kind == "eye":  # gaze that rests for 20 samples, then jumps; nothing is lost
        places = 0.5 + 0.1 * torch.randn((1, -(-count // 20), *shape[2:]), generator=generator)
        values = places.repeat_interleave(20, 1)[:, :count]
        values[..., [n for n, name in enumerate(spec.columns) if name.startswith("valid")]] = 1.0
    else:
        values = torch.randn(shape, generator=generator) * (0.1 if spec.kind == "audio" else 1.0)
    if spec.kind == "pose":
        values[..., -1] = 1.0
    begin = torch.arange(count, dtype=torch.float32) / (spec.rate or 25.0)
    spans = torch.stack([begin, begin + 1 / (spec.rate or 25.0)], dim=1)
    return Sampled(values, torch.ones(1, count, dtype=torch.bool), spans[None])


def of(name: str, count: int, **init_args: Any) -> Callable[[], tuple[nn.Module, Run]]:
    """An encoder of `mer.encoders`, given a clip of so many elements."""

    def ours() -> tuple[nn.Module, Run]:
        import mer.encoders

        encoder: Encoder = getattr(mer.encoders, name)(**init_args)
        inputs = clip(encoder.spec, count)
        return encoder.eval(), lambda: encoder(inputs)

    return ours


def _frames(encoder: Any, count: int) -> Tensor:
    """Pictures as a library wants them: (1, count, 3, H, W), normalised."""
    return Encoder.pixels(encoder, clip(encoder.spec, count))


def _torchvision_mvit(encoder: Any) -> Sequence[Run]:
    network = foreign.torchvision().models.video.mvit_v2_s().eval()
    network.load_state_dict(encoder.network.state_dict(), strict=False)  # the classifier aside
    network.head = nn.Identity()
    x = _frames(encoder, 16).transpose(1, 2).contiguous()
    return [lambda: network(x), lambda: network(x.to(memory_format=torch.channels_last_3d))]


def _timm_swin(backbone: Any) -> Sequence[Run]:
    timm = foreign.timm()
    settings = {"img_size": 112, "patch_size": 2, "window_size": 7, "embed_dim": 96, "depths": (2, 2, 6, 2)}
    network = timm.models.swin_transformer.SwinTransformer(**settings, num_heads=(3, 6, 12, 24), num_classes=0).eval()
    # timm merges patches before a stage, SwinFace after it.
    moved = {
        re.sub(r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", key): value
        for key, value in backbone.state_dict().items()
    }
    network.load_state_dict({key: moved.get(key, value) for key, value in network.state_dict().items()})
    x = _face()
    return [lambda: network.layers(network.patch_embed(x)).flatten(1, 2)]


def _swin_backbone() -> tuple[nn.Module, Run]:
    from mer.encoders import SwinFace

    backbone, x = SwinFace().network.backbone.eval(), _face()
    return backbone, lambda: backbone(x)[-1]


def _face() -> Tensor:
    return torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))


def _joint() -> tuple[nn.Module, Run]:
    from mer.encoders import MMADFER

    encoder = MMADFER().eval()
    counts = {"video": 16, "audio": round(5.12 * 16_000)}
    inputs = {name: clip(spec, counts[name]) for name, spec in encoder.specs.items()}
    return encoder, lambda: encoder(inputs)


def _speech(samples: int) -> Callable[[Any], Sequence[Run]]:
    def theirs(encoder: Any) -> Sequence[Run]:
        wave = clip(encoder.spec, samples).values
        wave = (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt() if encoder.normalize else wave
        return [lambda: encoder.network(wave).last_hidden_state]

    return theirs


def _whisper(encoder: Any) -> Sequence[Run]:
    wave = F.pad(clip(encoder.spec, 160_000).values, (0, 320_000))
    mel = encoder.spectrogram(wave)
    return [lambda: encoder.network(mel).last_hidden_state[:, :500]]


def _ast(encoder: Any) -> Sequence[Run]:
    network = transformers.network(encoder.plain).eval()
    ours, keys = encoder.network.state_dict(), network.state_dict().keys()
    renamed = (weights.renamed(ours, layout) for layout in encoder.tables())
    network.load_state_dict(next((state for state in renamed if state.keys() == keys), ours))
    mel = encoder.spectrogram(clip(encoder.spec, _AST), torch.tensor([encoder.frames]))
    mel = (mel - encoder.mean) / (2 * encoder.std)
    bands = encoder.network.grid[0]
    return [lambda: network(mel).last_hidden_state[:, 2:].unflatten(1, (bands, -1)).mean(1)]


def _pooled(count: int) -> Callable[[Any], Sequence[Run]]:
    def theirs(encoder: Any) -> Sequence[Run]:
        x = _frames(encoder, count)[0]
        return [lambda: encoder.network(x).pooler_output]

    return theirs


def _videomae(encoder: Any) -> Sequence[Run]:
    x = _frames(encoder, 16)
    return [lambda: encoder.network.videomae(x).last_hidden_state.unflatten(1, (8, -1)).mean(2)]


def _skeleton(frames: int, people: int, layout: str) -> Callable[[], tuple[nn.Module, Run]]:
    def ours() -> tuple[nn.Module, Run]:
        network = AGCN(skeletons.layout(layout), people=people, classes=60, gain=1.0)
        x = _bodies(network, frames)
        return network.eval(), lambda: network(x)

    return ours


def _bodies(network: Any, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, frames, network.joints, network.people, generator=generator)


def _plain_agcn(frames: int, layout: str) -> Callable[[Any], Sequence[Run]]:
    def theirs(network: Any) -> Sequence[Run]:
        plain = PlainAGCN(skeletons.layout(layout), network.people, 60).eval()
        plain.load_state_dict(network.state_dict())
        x = _bodies(network, frames)
        return [lambda: plain(x), lambda: plain(x, torch.channels_last)]

    return theirs


class PlainAGCN(nn.Module):
    """2s-AGCN (Shi et al., CVPR 2019) written as its formulas are, one line each: what ours is held against."""

    def __init__(self, layout: skeletons.Layout, people: int, classes: int):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(people * layout.size * 3)
        widths = (3, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
        for index, (inside, outside) in enumerate(pairwise(widths)):
            stride = 1 if inside == outside or not index else 2
            self.add_module(f"l{index + 1}", _PlainUnit(inside, outside, stride, adjacency(layout), index > 0))
        self.fc = nn.Linear(256, classes)

    def forward(self, x: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
        """(N, C, T, V, M) to logits."""
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v).contiguous(memory_format=layout)
        for index in range(10):
            x = self.get_submodule(f"l{index + 1}")(x)
        out: Tensor = self.fc(x.mean((2, 3)).view(n, m, -1).mean(1))
        return out


class _PlainUnit(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, graph: Tensor, shortcut: bool):
        super().__init__()
        self.gcn1 = _PlainGraph(inside, outside, graph)
        self.tcn1 = _PlainTemporal(outside, outside, 9, stride)
        same = inside == outside and stride == 1
        self.residual = _PlainTemporal(inside, outside, 1, stride) if shortcut and not same else None
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(self.gcn1(x))
        if self.shortcut:
            y = y + (x if self.residual is None else self.residual(x))
        return F.relu(y)


class _PlainTemporal(nn.Module):
    def __init__(self, inside: int, outside: int, size: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, (size, 1), (stride, 1), (size // 2, 0))
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class _PlainGraph(nn.Module):
    A: Tensor

    def __init__(self, inside: int, outside: int, graph: Tensor):
        super().__init__()
        self.PA = nn.Parameter(torch.zeros_like(graph))
        self.register_buffer("A", graph, persistent=False)
        self.conv_a, self.conv_b = (
            nn.ModuleList(nn.Conv2d(inside, outside // 4, 1) for _ in range(3)) for _ in range(2)
        )
        self.conv_d = nn.ModuleList(nn.Conv2d(inside, outside, 1) for _ in range(3))
        same = inside == outside
        self.down = None if same else nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v = x.shape
        y: Any = 0
        for k, (a, b, d) in enumerate(zip(self.conv_a, self.conv_b, self.conv_d, strict=True)):
            left, right = a(x).permute(0, 3, 1, 2).flatten(2), b(x).flatten(1, 2)
            own = torch.softmax(left @ right / right.shape[1], dim=1)
            graph = self.A[k] + self.PA[k] + own
            y = y + d((x.reshape(n, c * t, v) @ graph.to(x.dtype)).view(n, c, t, v))
        return F.relu(self.bn(y) + (x if self.down is None else self.down(x)))


def _words() -> tuple[nn.Module, Run]:
    from mer.encoders import TextEncoder
    from mer.encoders.text import packed

    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {f"word{n}": n + 4 for n in range(50)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    tokenizer = {"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    encoder = TextEncoder(packed(json.dumps(tokenizer)), "roberta-base")
    inputs = clip(encoder.spec, 64)
    return encoder, lambda: encoder(inputs)


def _roberta(encoder: Any) -> Sequence[Run]:
    ids = torch.tensor([[n % 50 + 4 for n in range(64)]])
    return [lambda: encoder.network(input_ids=ids).last_hidden_state]


SUBJECTS: tuple[Subject, ...] = (
    Subject("MViTv2", "16 frames of 224", of("MViTv2", 16, tokens="cls", rate=7.5), "torchvision", _torchvision_mvit),
    Subject("VideoMAE base", "16 frames of 224", of("VideoMAE", 16, architecture="videomae-base"), "transformers",
            _videomae),
    Subject("2s-AGCN, T300 M2 V25", "300 frames", _skeleton(300, 2, "ntu25"), "plain formulas", _plain_agcn(300, "ntu25")),
    Subject("2s-AGCN, T100 M1 V22", "100 frames", _skeleton(100, 1, "imigue22"), "plain formulas",
            _plain_agcn(100, "imigue22")),
    Subject("SwinFace", "1 face of 112", of("SwinFace", 1)),
    Subject("SwinFace, its Swin", "1 face of 112", _swin_backbone, "timm", _timm_swin),
    Subject("MAE-Face", "8 faces of 224", of("MAEFace", 8)),
    Subject("MMA-DFER", "16 faces of 224, 5 s", _joint),
    Subject("CLIP B/32", "8 frames of 224", of("ImageTransformer", 8, architecture="clip-vit-base-patch32"), "transformers",
            _pooled(8)),
    Subject("SigLIP B/16", "8 frames of 224", of("ImageTransformer", 8, architecture="siglip-base-patch16-224"),
            "transformers", _pooled(8)),
    Subject("DINOv2 B/14", "8 frames of 224", of("ImageTransformer", 8, architecture="dinov2-base"), "transformers",
            _pooled(8)),
    *(
        Subject(name, "10 s", of("SpeechTransformer", 160_000, architecture=name), "transformers", _speech(160_000))
        for name in ("wav2vec2-base", "hubert-base", "wavlm-base-plus", "data2vec-audio-base")
    ),
    Subject("Whisper base", "10 s", of("WhisperEncoder", 160_000, architecture="whisper-base"), "transformers", _whisper),
    Subject("AST", "10.24 s", of("AudioSpectrogramTransformer", _AST, architecture="ast-10-10"), "transformers", _ast),
    Subject("AudioMAE", "10.24 s", of("AudioMAE", 163_840)),
    Subject("RoBERTa base", "64 words", _words, "transformers", _roberta),
    Subject("FlowNet", "16 fields", of("FlowNet", 16)),
    Subject("FlowMViT", "16 fields of 224", of("FlowMViT", 16)),
    Subject("RAFTFlow", "5 frames", of("RAFTFlow", 5)),
    Subject("STSTNet", "1 field of 28", of("STSTNet", 1)),
    Subject("SkeletonGCN, two streams", "90 frames", of("SkeletonGCN", 90, layout="imigue22")),
    Subject("EyeLSTM", "32 samples", of("EyeLSTM", 32)),
    Subject("EyeTCN", "500 samples", of("EyeTCN", 500)),
    Subject("EyeTransformer", "500 samples", of("EyeTransformer", 500)),
    Subject("EyeEvents", "480 samples", of("EyeEvents", 480, screen=_SCREEN)),
    Subject("EyeStatistics", "480 samples", of("EyeStatistics", 480, screen=_SCREEN)),
    Subject("FixationMap", "480 samples", of("FixationMap", 480, screen=_SCREEN)),
    Subject("FeatureEncoder", "100 rows of 768", of("FeatureEncoder", 100, width=768, rate=50.0, layers=1)),
    Subject("MelNet", "3 s", of("MelNet", 48_000)),
    Subject("ResNet-18", "8 faces of 112", of("ResNet", 8, size=112)),
    Subject("FrameCNN", "16 frames of 64", of("FrameCNN", 16)),
)  # fmt: skip
