"""Estimators and tests. Every estimator returns an :class:`Estimate`: value, interval, unit, n and method.

Needs numpy and scipy only; scipy is imported when the first quantile is asked for.
"""

from __future__ import annotations

from levercheck.stats.agreement import cohen_kappa, gwet_ac1, krippendorff_alpha
from levercheck.stats.association import spearman
from levercheck.stats.band import Band, simultaneous_band
from levercheck.stats.bounds import Bounds, paired_bounds, rate_bounds
from levercheck.stats.calibration import Bin, brier, expected_calibration_error, reliability_bins
from levercheck.stats.clusters import Clustering, clustering
from levercheck.stats.correction import JudgeErrors, rogan_gladen, rogan_gladen_difference
from levercheck.stats.design import items_needed, mde, mde_paired_proportion
from levercheck.stats.equivalence import Equivalence, equivalent, non_inferiority, tost
from levercheck.stats.estimate import Estimate
from levercheck.stats.flips import ChiSquare, FlipMatrix, flip_matrix
from levercheck.stats.fragility import Fragility, items_to_drop, labels_to_flip
from levercheck.stats.means import mean
from levercheck.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from levercheck.stats.paired import McNemar, mcnemar, paired_difference
from levercheck.stats.permutation import MaxStatistic, SignFlip, sign_flip, westfall_young
from levercheck.stats.power import simulate_doses, verdict_power
from levercheck.stats.ppi import ppi_mean, ppi_paired_difference
from levercheck.stats.proportions import items_to_exclude, proportion, zero_event_bound
from levercheck.stats.resampling import bootstrap, bootstrap_means, bootstrap_totals, percentile_bounds
from levercheck.stats.roc import auroc, auroc_difference
from levercheck.stats.roc_pairs import matched_auroc, within_auroc
from levercheck.stats.shape import Shape, dose_shape
from levercheck.stats.slopes import item_slopes, largest_slope, slope, slope_difference
from levercheck.stats.specificity import TwoLevel, attainable_p, monte_carlo_p, sets_needed, two_level
from levercheck.stats.subsets import stratified_subset_sums

__all__ = [
    "Band",
    "Bin",
    "Bounds",
    "ChiSquare",
    "Clustering",
    "Equivalence",
    "Estimate",
    "FlipMatrix",
    "Fragility",
    "JudgeErrors",
    "MaxStatistic",
    "McNemar",
    "Shape",
    "SignFlip",
    "TwoLevel",
    "attainable_p",
    "auroc",
    "auroc_difference",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "bootstrap",
    "bootstrap_means",
    "bootstrap_totals",
    "brier",
    "clustering",
    "cohen_kappa",
    "dose_shape",
    "equivalent",
    "expected_calibration_error",
    "flip_matrix",
    "gwet_ac1",
    "holm",
    "item_slopes",
    "items_needed",
    "items_to_drop",
    "items_to_exclude",
    "krippendorff_alpha",
    "labels_to_flip",
    "largest_slope",
    "matched_auroc",
    "mcnemar",
    "mde",
    "mde_paired_proportion",
    "mean",
    "monte_carlo_p",
    "non_inferiority",
    "paired_bounds",
    "paired_difference",
    "percentile_bounds",
    "ppi_mean",
    "ppi_paired_difference",
    "proportion",
    "rate_bounds",
    "reliability_bins",
    "rogan_gladen",
    "rogan_gladen_difference",
    "sets_needed",
    "sign_flip",
    "simulate_doses",
    "simultaneous_band",
    "slope",
    "slope_difference",
    "spearman",
    "stratified_subset_sums",
    "tost",
    "two_level",
    "verdict_power",
    "westfall_young",
    "within_auroc",
    "zero_event_bound",
]
