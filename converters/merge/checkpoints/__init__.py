"""Merging whole checkpoints: one file per method, and the plan that reads nothing until written."""

from converters.merge.checkpoints.add_difference import ADD_DIFFERENCE
from converters.merge.checkpoints.average import AVERAGE
from converters.merge.checkpoints.cosine import COSINE_A, COSINE_B
from converters.merge.checkpoints.dare import DARE
from converters.merge.checkpoints.method import Method, Numbers
from converters.merge.checkpoints.perpendicular import PERPENDICULAR
from converters.merge.checkpoints.slerp import SLERP
from converters.merge.checkpoints.ties import TIES
from converters.merge.checkpoints.train_difference import TRAIN_DIFFERENCE
from converters.merge.checkpoints.weighted_sum import WEIGHTED_SUM

__all__ = ["METHODS", "Method", "Numbers"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        WEIGHTED_SUM,
        ADD_DIFFERENCE,
        TRAIN_DIFFERENCE,
        SLERP,
        TIES,
        DARE,
        COSINE_A,
        COSINE_B,
        PERPENDICULAR,
        AVERAGE,
    )
}
"""The methods by the words of the command line. To add one, write its file and add it here."""
