"""BAH spells the name of one video in many ways."""

from __future__ import annotations

import pytest

from mer.datasets.corpora.bah_names import Name, frame_number, name_of
from mer.errors import UserError

KEY = "82567_Question_7_2024-10-02_15-46-17_Video"


@pytest.mark.parametrize(
    "path",
    [
        "Videos/82567/Visite_1/82567_Question_7_2024-10-02_15-46-17_Video.mp4",
        "Videos/82567/Visite_1/82567_Question_7_2024-10-02 15-46-17_Video.mp4",
        "82567/Visite 1/82567_Question_7_2024-10-02 15-46-17_Video.mp4",
        "Videos/82567/Visite_1/82567_Question_7_2024-10-02 15-46-17_Video.mp4/frame-0.jpg",
        "cropped-aligned-faces/Videos/82567/Visite_1/82567_Question_7_2024-10-02_15-46-17_Video.mp4/",
        "Videos\\82567\\Visite_1\\82567_Question_7_2024-10-02_15-46-17_Video.mp4",
        KEY,
    ],
)
def test_all_spellings_mean_one_video(path: str) -> None:
    assert name_of(path, "here") == Name(KEY, "82567", 7)


def test_the_name_of_a_computer_belongs_to_the_video() -> None:
    name = name_of("Videos/82620/Visite_1/82620_Question_7_2024-11-05_14-58-50_Video-DESKTOP-NQ55E0P.mp4", "here")
    assert name == Name("82620_Question_7_2024-11-05_14-58-50_Video-DESKTOP-NQ55E0P", "82620", 7)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Videos/82567/holiday.mp4", "list.txt, line 3: 'Videos/82567/holiday.mp4' is no video of BAH"),
        ("82567_Question_8_2024_Video.mp4", "answers question 8"),
        ("Videos/82568/Visite_1/82567_Question_7_2024_Video.mp4", "folder of participant 82568"),
    ],
)
def test_what_is_none_is_refused(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        name_of(path, "list.txt, line 3")


def test_numbers_of_frames_are_numbers() -> None:
    names = ["a.mp4/frame-10.jpg", "a.mp4/frame-9.jpg", "a.mp4/frame-0.JPG"]
    assert sorted(names, key=lambda name: frame_number(name) or 0) == names[::-1]
    assert frame_number("a.mp4/face.jpg") is None
