"""mer: multimodal emotion recognition from video.

Files of a person become token streams that know their place in media time; an interchangeable fusion joins them;
heads read emotions per video and per frame. Importing this package is cheap: torch is imported by the rooms below.
"""

__version__ = "0.1.0"
