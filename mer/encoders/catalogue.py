"""The public checkpoints that `mer` knows: source, licence, hash, which encoder takes them. Names and facts, no tensors.

A name stands wherever a file of weights does (`encoder_weights: {video: mvit_v2_s-kinetics400}`). It is looked for in the
folder that the variable MER_WEIGHTS names (a mirror, for nodes without internet), then in the user's cache, then where the
libraries that people got such files with keep them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer.errors import UserError

_HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Published:
    """One public checkpoint.

    Attributes:
        name: what a config says.
        encoder: class path of the encoder that takes it.
        licence: of the weights, as far as their author states one.
        about: what it was trained on, and the paper.
        page: where it is described.
        files: names of its files, in a folder of the entry's name where there are several.
        one_of: further files of which the first that the source has is enough.
        init_args: the arguments of the encoder that fit it, where they are not the defaults.
        part: of an encoder of several networks, the one that it fills.
        source: address of the folder that `mer weights fetch` downloads the files from; None where it is to be had by hand
            (a drive that wants a browser), or by asking.
        sha256: per file, or its first digits where the author published no more; none where unknown.
        megabytes: size of the weights, about.
    """

    name: str
    encoder: str
    licence: str
    about: str
    page: str
    files: tuple[str, ...]
    one_of: tuple[str, ...] = ()
    init_args: Mapping[str, Any] = field(default_factory=dict)
    part: str | None = None
    source: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    megabytes: float | None = None

    @property
    def single(self) -> bool:
        """Whether it is one file, which needs no folder."""
        return len(self.files) == 1 and not self.one_of

    def place(self, folder: Path) -> Path:
        """Where in such a folder as MER_WEIGHTS names it belongs."""
        return folder / (self.files[0] if self.single else self.name)

    def complete(self, place: Path) -> bool:
        """Whether all of it is at a place."""
        if self.single:
            return place.is_file()
        some = not self.one_of or any((place / name).is_file() for name in self.one_of)
        return some and all((place / name).is_file() for name in self.files)

    def wanted(self) -> list[str]:
        """Names of the files, as a sentence needs them."""
        return [*self.files, *([" or ".join(self.one_of)] if self.one_of else [])]


# -- the entries ---------------------------------------------------------------------------------------------------------

_BOUND = "The terms of the corpora may bind what was trained on them"


def _hub(
    repository: str,
    encoder: str,
    licence: str,
    megabytes: float,
    about: str,
    architecture: str | None = None,
    open_to_all: bool = True,
    sha256: str | None = None,
    **init_args: Any,
) -> Published:
    """A folder of the Hugging Face hub, for an encoder that has a preset for it; `sha256` is that of pytorch_model.bin."""
    name = repository.partition("/")[2]
    text = encoder == "TextEncoder"
    return Published(
        name,
        f"mer.encoders.{encoder}",
        licence,
        about,
        f"{_HUB}{repository}",
        files=("config.json", "tokenizer.json") if text else ("config.json",),
        one_of=("model.safetensors", "pytorch_model.bin"),
        init_args={"architecture": architecture or name, **({"tokenizer": name} if text else {}), **init_args},
        source=f"{_HUB}{repository}/resolve/main/" if open_to_all else None,
        sha256={"pytorch_model.bin": sha256} if sha256 else {},
        megabytes=megabytes,
    )


def _mmaction(stream: str, joints: str, digits: str, accuracy: str) -> Published:
    layout, normalise = ("ntu25", {"normalise": "pyskl"}) if joints == "3d" else ("coco17", {})
    file = f"2s-agcn_8xb16-{stream}-u100-80e_ntu60-xsub-keypoint-{joints}"
    name = f"{file}_20221222-{digits}.pth"
    return Published(
        f"mmaction2-2s-agcn-ntu60-{joints}-{stream}",
        "mer.encoders.SkeletonGCN",
        "Apache-2.0",
        f"NTU RGB+D 60, cross-subject, {stream} stream, top-1 {accuracy}. mmaction2's 2s-AGCN is AAGCN (Shi et al., TIP 2020)"
        f" without attention{'' if normalise else '; give normalise: picture and the size of the video'}. {_BOUND}",
        "https://github.com/open-mmlab/mmaction2/tree/main/configs/skeleton/2s-agcn",
        files=(name,),
        # One stream: of several, those without a file would be random.
        init_args={
            "variant": "aagcn",
            "attention": False,
            "layout": layout,
            "streams": [stream],
            "people": 2,
            "frames": 100,
            **normalise,
        },
        part=stream,
        source=f"https://download.openmmlab.com/mmaction/v1.0/skeleton/2s-agcn/{file}/",
        sha256={name: digits},
        megabytes=14,
    )


_HUBERT = "HuBERT (Hsu et al., TASLP 2021)"
_WAV2VEC = "wav2vec 2.0 (Baevski et al., NeurIPS 2020)"
_WHISPER = "Whisper (Radford et al., ICML 2023); the encoder is taken"
_CLIP = (
    "CLIP (Radford et al., ICML 2021), 400 M pairs of image and text; the image half is taken. The licence is"
    " that of its code, the card names none"
)
_SIGLIP = "SigLIP (Zhai et al., ICCV 2023), WebLI; the image half is taken"
_DINO = "DINOv2 (Oquab et al., TMLR 2024), LVD-142M"
_DINO3 = "DINOv3 (Siméoni et al., 2025), LVD-1689M; the hub asks for a login"
_VIDEOMAE = "VideoMAE (Tong et al., NeurIPS 2022), Kinetics-400"
_SPEECH, _IMAGE, _TEXT = "SpeechTransformer", "ImageTransformer", "TextEncoder"

_ENTRIES = (
    # video
    Published(
        "mvit_v2_s-kinetics400",
        "mer.encoders.MViTv2",
        "BSD-3-Clause",
        "MViTv2-S (Li et al., CVPR 2022), Kinetics-400, 16 x 4 frames; torchvision's port, top-1 80.8. " + _BOUND,
        "https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.video.mvit_v2_s.html",
        files=("mvit_v2_s-ae3be167.pth",),
        source="https://download.pytorch.org/models/",
        sha256={"mvit_v2_s-ae3be167.pth": "ae3be16733081f6d1cd40e4ab980ca23d6df6dc6486d15ada05a5e8ab8c9b975"},
        megabytes=131.884,
    ),
    *(
        Published(
            f"raft-{model}",
            "mer.encoders.RAFTFlow",
            "BSD-3-Clause",
            f"RAFT (Teed, Deng, ECCV 2020), {trained}; optical flow, torchvision's training. " + _BOUND,
            f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.optical_flow.raft_{model}.html",
            init_args={"model": model},
            files=(file,),
            source="https://download.pytorch.org/models/",
            sha256={file: file.removesuffix(".pth").rpartition("-")[2]},
        )
        for model, trained, file in (
            ("small", "FlyingChairs and FlyingThings3D", "raft_small_C_T_V2-01064c6d.pth"),
            ("large", "FlyingChairs, FlyingThings3D, Sintel, KITTI and HD1K", "raft_large_C_T_SKHT_V2-ff5fadd5.pth"),
        )
    ),
    Published(
        "slowfast-mvit_v2_s-kinetics400",
        "mer.encoders.MViTv2",
        "Apache-2.0",
        "MViTv2-S (Li et al., CVPR 2022), Kinetics-400, 16 x 4 frames; the authors' own file, top-1 81.0. " + _BOUND,
        "https://github.com/facebookresearch/SlowFast/blob/main/projects/mvitv2/README.md",
        files=("MViTv2_S_16x4_k400_f302660347.pyth",),
        source="https://dl.fbaipublicfiles.com/pyslowfast/model_zoo/mvitv2/pysf_video_models/",
    ),
    Published(
        "mmaction2-mvit_v2_s-kinetics400",
        "mer.encoders.MViTv2",
        "Apache-2.0",
        "MViTv2-S, Kinetics-400, 16 x 4 frames; trained with mmaction2, top-1 80.6. " + _BOUND,
        "https://github.com/open-mmlab/mmaction2/tree/main/configs/recognition/mvit",
        files=("mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth",),
        source="https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/"
        "mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb/",
        sha256={"mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth": "23284ff3"},
    ),
    Published(
        "mmaction2-mvit_v2_s-ssv2",
        "mer.encoders.MViTv2",
        "Apache-2.0",
        "MViTv2-S, Something-Something V2, 16 frames of the clip; the authors' weights as mmaction2 keeps them, top-1 68.1. "
        + _BOUND,
        "https://github.com/open-mmlab/mmaction2/tree/main/configs/recognition/mvit",
        files=("mvit-small-p244_u16_sthv2-rgb_20221021-65ecae7d.pth",),
        init_args={"segments": 16},
        source="https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/converted/",
        sha256={"mvit-small-p244_u16_sthv2-rgb_20221021-65ecae7d.pth": "65ecae7d"},
    ),
    _hub("MCG-NJU/videomae-base", "VideoMAE", "CC BY-NC 4.0", 377, f"{_VIDEOMAE}, without labels"),
    _hub("MCG-NJU/videomae-large", "VideoMAE", "CC BY-NC 4.0", 1377, f"{_VIDEOMAE}, without labels"),
    *(
        _hub(f"MCG-NJU/videomae-{size}-finetuned-kinetics", "VideoMAE", "CC BY-NC 4.0", megabytes, f"{_VIDEOMAE}, with labels",
             architecture=f"videomae-{size}-finetuned")
        for size, megabytes in (("small", 88), ("base", 346), ("large", 1217))
    ),
    # skeletons
    _mmaction("joint", "3d", "24dabf78", "88.3"),
    _mmaction("bone", "3d", "abe70a7f", "89.2"),
    _mmaction("joint", "2d", "4c0ed77e", "88.6"),
    _mmaction("bone", "2d", "293878b5", "91.6"),
    # faces
    Published(
        "swinface",
        "mer.encoders.SwinFace",
        "MIT",
        "SwinFace (Qin et al., TCSVT 2024): MS1MV2 identities, RAF-DB, AffectNet, CelebA, age corpora; RAF-DB 90.97. It may"
        f" have to go through mer weights convert. {_BOUND}",
        "https://github.com/lxq1000/SwinFace (Google Drive, see its README)",
        files=("checkpoint_step_79999_gpu_0.pt",),
    ),
    Published(
        "mae-face",
        "mer.encoders.MAEFace",
        "MIT",
        "MAE-Face (Ma et al., CVPR workshops 2023), ViT-B/16 on faces, without labels. Fills MMADFER's part `image`, too",
        "https://github.com/FuxiVirtualHuman/MAE-Face/releases",
        files=("mae_face_pretrain_vit_base.pth",),
    ),
    Published(
        "mma-dfer-dfew",
        "mer.encoders.MMADFER",
        "unknown: ask",
        "MMA-DFER (Chumachenko et al., CVPR workshops 2024) on DFEW, a file per fold. It holds a recorder of the training, so"
        " that it goes through mer weights convert. Its repository has no licence, and asks to respect that of DFEW",
        "https://github.com/katerynaCh/MMA-DFER (Google Drive, see its README)",
        files=("mma_dfer_dfew.safetensors",),
        init_args={"classes": 7, "crop": "none"},
    ),
    # pictures
    *(
        Published(
            file,
            "mer.encoders.ResNet",
            "BSD-3-Clause",
            f"ResNet-{depth} (He et al., CVPR 2016), ImageNet-1k; torchvision's training, top-1 {accuracy}. " + _BOUND,
            f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.resnet{depth}.html",
            init_args={"depth": depth},
            files=(f"{file}.pth",),
            source="https://download.pytorch.org/models/",
            sha256={f"{file}.pth": file.rpartition("-")[2]},
            megabytes=megabytes,
        )
        for depth, file, accuracy, megabytes in (
            (18, "resnet18-5c106cde", "69.8", 45),
            (34, "resnet34-333f7ec4", "73.3", 83),
            (50, "resnet50-19c8e357", "76.1", 98),
        )
    ),
    *(
        _hub(f"openai/clip-vit-{name}", _IMAGE, "MIT", megabytes, _CLIP)
        for name, megabytes in (
            ("base-patch32", 605), ("base-patch16", 599), ("large-patch14", 1711), ("large-patch14-336", 1712)
        )
    ),
    *(
        _hub(f"google/siglip-{name}", _IMAGE, "Apache-2.0", megabytes, _SIGLIP)
        for name, megabytes in (("base-patch16-224", 813), ("large-patch16-256", 2609), ("so400m-patch14-384", 3512))
    ),
    *(
        _hub(f"facebook/dinov2-{size}", _IMAGE, "Apache-2.0", megabytes, _DINO)
        for size, megabytes in (("small", 88), ("base", 346), ("large", 1217), ("giant", 4546))
    ),
    *(
        _hub(f"facebook/dinov2-with-registers-{size}", _IMAGE, "Apache-2.0", megabytes, f"{_DINO}, with registers")
        for size, megabytes in (("small", 88), ("base", 346), ("large", 1217))
    ),
    *(
        _hub(f"facebook/dinov3-{size}-pretrain-lvd1689m", _IMAGE, "DINOv3 License", megabytes, _DINO3,
             architecture=f"dinov3-{size}", open_to_all=False)
        for size, megabytes in (("vits16", 86), ("vitb16", 343), ("vitl16", 1213))
    ),
    # sound
    _hub("facebook/hubert-base-ls960", _SPEECH, "Apache-2.0", 378, f"{_HUBERT}, LibriSpeech", "hubert-base",
         sha256="062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad"),
    _hub("facebook/hubert-large-ll60k", _SPEECH, "Apache-2.0", 1262, f"{_HUBERT}, Libri-Light", "hubert-large"),
    _hub("facebook/hubert-xlarge-ll60k", _SPEECH, "Apache-2.0", 3850, f"{_HUBERT}, Libri-Light", "hubert-xlarge"),
    _hub("TencentGameMate/chinese-hubert-base", _SPEECH, "MIT", 378, f"{_HUBERT}, WenetSpeech, Mandarin"),
    _hub("TencentGameMate/chinese-hubert-large", _SPEECH, "MIT", 1262, f"{_HUBERT}, WenetSpeech, Mandarin"),
    *(
        _hub(f"microsoft/{name}", _SPEECH, "CC BY-SA 3.0", megabytes, f"WavLM (Chen et al., JSTSP 2022), {data}")
        for name, megabytes, data in (
            ("wavlm-base", 378, "LibriSpeech"),
            ("wavlm-base-plus", 378, "94,000 hours of English"),
            ("wavlm-large", 1262, "94,000 hours of English"),
        )
    ),
    _hub("facebook/wav2vec2-base", _SPEECH, "Apache-2.0", 380, f"{_WAV2VEC}, LibriSpeech"),
    _hub("facebook/wav2vec2-large-lv60", _SPEECH, "Apache-2.0", 1270, f"{_WAV2VEC}, Libri-Light"),
    _hub("facebook/wav2vec2-large-xlsr-53", _SPEECH, "Apache-2.0", 1270, f"{_WAV2VEC}, 53 languages", "xlsr-53"),
    _hub("facebook/wav2vec2-xls-r-300m", _SPEECH, "Apache-2.0", 1270, "XLS-R (Babu et al., 2022), 128 languages", "xlsr-300m"),
    *(
        _hub(f"facebook/data2vec-audio-{size}", _SPEECH, "Apache-2.0", megabytes, "data2vec (Baevski et al., ICML 2022),"
             " LibriSpeech")
        for size, megabytes in (("base", 373), ("large", 1256))
    ),
    *(
        _hub(f"openai/whisper-{size}", "WhisperEncoder", "Apache-2.0", megabytes, _WHISPER)
        for size, megabytes in (("tiny", 151), ("base", 290), ("small", 967), ("medium", 3056), ("large-v3", 3087))
    ),
    _hub("MIT/ast-finetuned-audioset-10-10-0.4593", "AudioSpectrogramTransformer", "BSD-3-Clause", 346,
         "AST (Gong et al., Interspeech 2021), AudioSet", "ast-10-10"),
    Published(
        "audiomae",
        "mer.encoders.AudioMAE",
        "CC BY-NC 4.0",
        "AudioMAE (Huang et al., NeurIPS 2022), ViT-B/16 on AudioSet-2M, without labels. Fills MMADFER's part `audio`, too."
        " Of its two licences (the README says CC BY 4.0) the stricter one is given. MMA-DFER gave the file this name",
        "https://github.com/facebookresearch/AudioMAE (Google Drive, see its README)",
        files=("audiomae_pretrained.pth",),
    ),
    # text
    _hub("FacebookAI/roberta-base", _TEXT, "MIT", 499, "RoBERTa (Liu et al., 2019), English"),
    _hub("FacebookAI/roberta-large", _TEXT, "MIT", 1422, "RoBERTa (Liu et al., 2019), English"),
    _hub("FacebookAI/xlm-roberta-base", _TEXT, "MIT", 1116, "XLM-RoBERTa (Conneau et al., ACL 2020), 100 languages"),
    _hub("FacebookAI/xlm-roberta-large", _TEXT, "MIT", 2244, "XLM-RoBERTa (Conneau et al., ACL 2020), 100 languages"),
    _hub("google-bert/bert-base-uncased", _TEXT, "Apache-2.0", 440, "BERT (Devlin et al., NAACL 2019), English"),
    _hub("hfl/chinese-roberta-wwm-ext", _TEXT, "Apache-2.0", 412, "Chinese RoBERTa-wwm-ext (Cui et al., TASLP 2021)"),
    _hub("hfl/chinese-roberta-wwm-ext-large", _TEXT, "Apache-2.0", 1307, "Chinese RoBERTa-wwm-ext (Cui et al., TASLP 2021)"),
)  # fmt: skip
CATALOGUE: dict[str, Published] = {entry.name: entry for entry in _ENTRIES}

# -- where they are ------------------------------------------------------------------------------------------------------


def folders() -> list[Path]:
    """Where published weights are looked for, the first one first."""
    mirror = os.environ.get("MER_WEIGHTS")
    return [*([Path(mirror)] if mirror else []), _cache() / "mer" / "weights"]


def places(entry: Published) -> Iterator[Path]:
    """Every place where the weights of an entry may be, the first one first."""
    yield from (entry.place(folder) for folder in folders())
    if entry.single:
        torch_home = Path(os.environ.get("TORCH_HOME") or _cache() / "torch")
        yield torch_home / "hub" / "checkpoints" / entry.files[0]
    if entry.page.startswith(_HUB):
        owner, name = entry.page.removeprefix(_HUB).split("/")
        home = Path(os.environ.get("HF_HOME") or _cache() / "huggingface")
        kept = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{owner}--{name}"
        try:
            yield kept / "snapshots" / (kept / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return


def find(entry: Published) -> Path | None:
    """The file or folder with the weights of an entry; None where this machine has none."""
    return next((place for place in places(entry) if entry.complete(place)), None)


def locate(named: str | Path) -> Path:
    """The file or folder of weights that a path or a name of the catalogue stands for.

    Raises:
        UserError: a name of the catalogue whose files are in none of the places.
    """
    path = Path(named)
    entry = CATALOGUE.get(str(named))
    if path.exists() or entry is None:
        return path
    found = find(entry)
    if found is not None:
        return found
    raise UserError(
        f"the weights {entry.name!r} are not on this machine",
        f"Where there is internet: mer weights fetch {entry.name}",
    )


def known(name: str) -> Published:
    """The entry of a name.

    Raises:
        UserError: there is none.
    """
    if name not in CATALOGUE:
        near = [known for known in CATALOGUE if name.lower() in known.lower()]
        remedy = f"Perhaps it is {' or '.join(near[:5])}" if near else "mer weights list prints all names"
        raise UserError(f"the catalogue has no weights {name!r}", remedy)
    return CATALOGUE[name]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
