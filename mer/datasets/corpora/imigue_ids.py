"""Who and what belongs to which part of iMiGUE: the authors' protocol, and the split of the MiGA challenges 2023 to 2026.

Subjects and emotion videos are those of "evaluation protocol.pdf" (Liu et al., CVPR 2021); the videos of the challenge were
read off its published lists of clips. Which subject a video shows is in the label file alone, which is not shipped.
"""

from __future__ import annotations

from typing import Literal

Protocol = Literal["official", "miga", "none"]


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(word) for word in text.split())


TRAIN_SUBJECTS = _numbers(
    "2 4 5 6 9 10 12 13 14 15 17 18 20 21 22 23 25 28 29 30 31 35 36 38 39 41 42 43 44 46 47 48 52 53 59 61 62"
)
TEST_SUBJECTS = _numbers(
    "1 3 7 8 11 16 19 24 26 27 32 33 34 37 40 45 49 50 51 54 55 56 57 58 60 63 64 65 66 67 68 69 70 71 72"
)
EMOTION_TRAIN = _numbers(
    "1 7 8 11 26 27 46 47 48 53 55 57 63 66 67 74 77 84 85 86 91 96 102 103 104 105 106 108 109 112 114 117 124 132 134 140"
    " 148 157 161 162 163 164 167 169 170 172 176 186 196 216 233 236 237 239 240 241 242 243 249 252 266 290 297 300 306"
    " 310 314 318 319 320 324 334 339 359 360 365 369 377 381 385 392 402 407 410 411 413 414 415 420 429 433 435 436 440"
    " 441 445 448 449 450 451 452 453"
)
EMOTION_TEST = _numbers(
    "9 10 12 16 28 35 43 49 50 51 52 54 56 60 71 72 83 89 95 100 107 110 111 121 131 136 144 145 165 166 168 171 174 179 185"
    " 191 193 212 220 223 230 231 232 234 235 238 244 246 254 258 262 263 268 270 276 280 282 303 304 311 312 313 315 316"
    " 317 322 323 325 327 328 329 333 337 341 343 344 363 374 400 401 403 404 405 406 408 416 417 419 421 428 430 431 437"
    " 438 439 442 443 444 446 447"
)
MIGA_TEST = _numbers(
    "54 67 69 70 71 72 74 77 79 85 98 105 106 109 110 111 112 114 116 118 125 126 133 135 138 144 148 154 156 161 163 166"
    " 167 168 169 196 198 200 201 205 208 212 213 220 235 237 238 241 242 243 244 262 274 280 292 303 318 320 322 327 329"
    " 346 349 355 368 371 375 378 380 385 396 406 410 411 413 414 415 416 417 421 423 424 425 428 429 431 436 437 438 439"
    " 440 441 442 443 444 445 446 447 448 449 450 451 452 453"
)
MIGA_VALIDATION = _numbers("1 2 3 4 6 7 8 9 10 11")
MIGA_ABSENT = _numbers("218 319 347 348")
# The videos of the 35 test subjects: those of the challenge, which has 85 and 86 the other way round.
OFFICIAL_TEST = MIGA_TEST - {85} | {86}
LAST = 453  # greatest number of a video; 359 of them exist

# Clips, or videos, per part as published.
PUBLISHED: dict[tuple[str, str], dict[str, int]] = {
    ("gesture", "official"): {"train": 13936, "test": 4563},
    ("gesture", "miga"): {"train": 12893, "val": 777, "test": 4562},
    ("emotion", "official"): {"train": 102, "test": 100},
    ("emotion", "miga"): {"train": 241, "val": 10, "test": 104},
}


def part(task: str, protocol: Protocol, video: int, subject: int | None) -> str | None:
    """`train`, `val` or `test`; empty where nothing is said (`none`); None for a video that the protocol does not name.

    The gestures of `official` are divided by subject; where the subject is not known, by the list of test videos.
    """
    if protocol == "none":
        return ""
    if protocol == "miga":
        if video in MIGA_ABSENT or video > LAST:
            return None
        return "test" if video in MIGA_TEST else "val" if video in MIGA_VALIDATION else "train"
    if task == "emotion":
        return "train" if video in EMOTION_TRAIN else "test" if video in EMOTION_TEST else None
    if subject is None:
        return None if video > LAST else "test" if video in OFFICIAL_TEST else "train"
    return "test" if subject in TEST_SUBJECTS else "train" if subject in TRAIN_SUBJECTS else None
