"""A finding: what is wrong, how bad, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Severity = Literal["leak", "error", "warning", "note"]
# `leak`: a score on this test split would be wrong, exit status 1. `error`: data that cannot be used as it stands.
# `warning`: usable, but hardly what was meant. `note`: good to know.
SEVERITIES: tuple[Severity, ...] = ("leak", "error", "warning", "note")
SHOWN = 5  # examples kept of a finding


@dataclass(frozen=True)
class Finding:
    """One kind of trouble, however often it occurs.

    Attributes:
        code: stable name, e.g. `media.truncated`; `--accept` takes it.
        severity: how bad.
        title: what is wrong, without the count.
        count: how often.
        unit: of what, in the singular.
        examples: the first few, with line numbers of the manifest.
        remedy: what to do.
    """

    code: str
    severity: Severity
    title: str
    count: int
    unit: str
    examples: tuple[str, ...]
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """For doctor.json."""
        return {
            "code": self.code, "severity": self.severity, "title": self.title, "count": self.count, "unit": self.unit,
            "examples": list(self.examples), "remedy": self.remedy,
        }  # fmt: skip

    @property
    def amount(self) -> str:
        """`3 files`."""
        return many(self.count, self.unit)


def found(code: str, severity: Severity, title: str, unit: str, where: Sequence[str], remedy: str) -> list[Finding]:
    """The finding, or nothing where `where` is empty."""
    return [Finding(code, severity, title, len(where), unit, tuple(where[:SHOWN]), remedy)] if where else []


def merged(parts: Iterable[tuple[str, Sequence[Finding]]]) -> list[Finding]:
    """Findings of several manifests as one list; examples say which manifest where there are several."""
    parts = list(parts)
    joined: dict[tuple[str, str], Finding] = {}
    for name, findings in parts:
        for finding in findings:
            examples = tuple(f"{name}: {e}" for e in finding.examples) if len(parts) > 1 else finding.examples
            before = joined.get((finding.code, finding.severity))
            if before is None:
                joined[finding.code, finding.severity] = replace(finding, examples=examples)
            else:
                joined[finding.code, finding.severity] = replace(
                    before, count=before.count + finding.count, examples=(before.examples + examples)[:SHOWN]
                )
    return sorted(joined.values(), key=lambda f: SEVERITIES.index(f.severity))


def accepted(findings: Sequence[Finding], codes: Sequence[str]) -> list[Finding]:
    """Findings that the user knows about become notes."""
    known = [replace(f, severity="note", title=f"{f.title} (accepted)") if f.code in codes else f for f in findings]
    return sorted(known, key=lambda f: SEVERITIES.index(f.severity))


def sentence(text: str) -> str:
    """With a full stop, unless it is a question."""
    return text if text.endswith("?") else f"{text}."


def many(count: int, unit: str) -> str:
    """`1 file`, `2 files`, `3 classes`."""
    if count == 1:
        return f"1 {unit}"
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}es" if unit.endswith("s") else f"{unit}s"
    return f"{count:,} {plural}"
