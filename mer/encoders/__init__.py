"""Sampled to Tokens, one file each. To add one: subclass `Encoder` in a file here and name its class path in YAML."""

from mer.encoders.audio_spectrogram import AudioSpectrogramTransformer
from mer.encoders.base import Encoder
from mer.encoders.eye_events import EyeEvents
from mer.encoders.eye_lstm import EyeLSTM
from mer.encoders.eye_statistics import EyeStatistics
from mer.encoders.eye_tcn import EyeTCN
from mer.encoders.eye_transformer import EyeTransformer
from mer.encoders.features import FeatureEncoder
from mer.encoders.fixation_map import FixationMap
from mer.encoders.flow import FlowNet
from mer.encoders.flow_mvit import FlowMViT
from mer.encoders.frames import FrameCNN
from mer.encoders.images import ImageTransformer
from mer.encoders.mae import AudioMAE, MAEFace
from mer.encoders.melnet import MelNet
from mer.encoders.mma_dfer import MMADFER
from mer.encoders.mmaction import MMAction
from mer.encoders.mvit import MViTv2
from mer.encoders.opensmile import OpenSmile
from mer.encoders.pytorchvideo_bridge import PyTorchVideo
from mer.encoders.raft import RAFTFlow
from mer.encoders.resnet import ResNet
from mer.encoders.skeleton import SkeletonGCN
from mer.encoders.speech import SpeechTransformer
from mer.encoders.ststnet import STSTNet
from mer.encoders.swinface import SwinFace
from mer.encoders.text import TextEncoder
from mer.encoders.timm_frames import TimmFrames
from mer.encoders.videomae import VideoMAE
from mer.encoders.whisper import WhisperEncoder

__all__ = [
    "MMADFER",
    "AudioMAE",
    "AudioSpectrogramTransformer",
    "Encoder",
    "EyeEvents",
    "EyeLSTM",
    "EyeStatistics",
    "EyeTCN",
    "EyeTransformer",
    "FeatureEncoder",
    "FixationMap",
    "FlowMViT",
    "FlowNet",
    "FrameCNN",
    "ImageTransformer",
    "MAEFace",
    "MMAction",
    "MViTv2",
    "MelNet",
    "OpenSmile",
    "PyTorchVideo",
    "RAFTFlow",
    "ResNet",
    "STSTNet",
    "SkeletonGCN",
    "SpeechTransformer",
    "SwinFace",
    "TextEncoder",
    "TimmFrames",
    "VideoMAE",
    "WhisperEncoder",
]
