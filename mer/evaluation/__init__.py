"""Scores to numbers that can be trusted: score files, metrics, intervals, paired tests. NumPy in, NumPy out.

The function `evaluate` is not re-exported: `mer.evaluation.evaluate` is the module of the command. Take it from
`mer.evaluation.summary`.
"""

from mer.evaluation.bootstrap import Comparison, Interval, MetricValue, bootstrap_metrics, paired_bootstrap, resample
from mer.evaluation.metrics import METRICS, ClassTable, ccc, confusion, macro_f1, metrics_of, uar, war, weighted_f1
from mer.evaluation.scores import Scores
from mer.evaluation.summary import Evaluation

__all__ = [
    "METRICS",
    "ClassTable",
    "Comparison",
    "Evaluation",
    "Interval",
    "MetricValue",
    "Scores",
    "bootstrap_metrics",
    "ccc",
    "confusion",
    "macro_f1",
    "metrics_of",
    "paired_bootstrap",
    "resample",
    "uar",
    "war",
    "weighted_f1",
]
