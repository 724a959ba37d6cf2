"""Every family of estimators against a direct computation on the same small table."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest
import scipy.stats

TARGET = {"condition": "target"}
PAIR = {"high": {"alpha": 3.0}, "none": {"alpha": 0.0}}
ARMS = {"target": TARGET, "control": {"condition": "random", "control_seed": 0}}


def grid(frame, column="positive", order="item_id"):
    """Items by doses, directly."""
    return np.column_stack(
        [part.sort(order)[column].cast(pl.Float64).to_numpy() for part in frame.sort("alpha").partition_by("alpha")]
    )


def line(doses, rates):
    return np.polyfit(doses, rates, 1)[0]


def serial(seed, n, resamples=400):
    rng = np.random.default_rng(seed)
    return [rng.choice(n, n, replace=True) for _ in range(resamples)]


def ends(record):
    return record["low"], record["high"]


def test_rate_is_wilson_and_one_part_per_dose(bench):
    yes = grid(bench.target)[:, 1]
    found = bench.one("rate", filter={**TARGET, "alpha": 1.0})
    oracle = scipy.stats.binomtest(int(yes.sum()), 40).proportion_ci(method="wilson")
    assert found["value"] == pytest.approx(yes.mean())
    assert ends(found) == pytest.approx(tuple(oracle))
    assert bench.one("rate", filter=TARGET, part="at 1")["low"] == pytest.approx(found["low"])
    percent = bench.one("rate", filter={**TARGET, "alpha": 1.0}, unit="%")
    assert percent["value"] == pytest.approx(100 * yes.mean())
    looser = bench.one("rate", filter={**TARGET, "alpha": 1.0}, parameters={"z": 1.96})
    assert looser["low"] < found["low"] < found["low"] + 1e-5


def test_a_clustered_rate_draws_whole_clusters(bench):
    found = bench.one("rate", filter={**TARGET, "alpha": 1.0}, clusters="cluster_id", stream="serial", seed=7)
    yes = grid(bench.target)[:, 1].reshape(10, 4)
    samples = [yes[picked].mean() for picked in serial(7, 10)]
    assert ends(found) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    assert (found["clusters"], found["cluster_unit"]) == (10, "cluster")


def test_counts_and_measures(bench):
    count = bench.one("count", filter=TARGET, measure={"column": "label", "one_of": ["yes", "borderline"]})
    assert count["value"] == bench.target.filter(pl.col("label") != "no").height
    negated = bench.one("count", filter=TARGET, measure={"column": "label", "equals": "no", "negate": True})
    assert negated["value"] == count["value"]
    assert count["low"] < count["value"] < count["high"] <= 120
    same = bench.one("count", filter=TARGET, measure={"column": "positive", "same_as": "gold"})
    assert same["value"] == bench.target.filter(pl.col("positive") == pl.col("gold")).height
    high = bench.one("count", filter=TARGET, measure={"column": "score", "min": 2, "max": 2})
    assert high["value"] == bench.target.filter(pl.col("score") == 2).height


def test_mean_and_its_spread(bench):
    chosen = {**TARGET, "score": {"min": 1}, "alpha": [0.0, 3.0]}
    values = bench.target.filter((pl.col("score") >= 1) & pl.col("alpha").is_in([0.0, 3.0]))["score"].to_numpy()
    oracle = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    found = bench.one("mean", filter=chosen, measure="score")
    assert found["value"] == pytest.approx(values.mean())
    assert ends(found) == pytest.approx((oracle.low, oracle.high))
    assert bench.one("mean", filter=chosen, measure="score", part="sd", parameters={"ddof": 0})[
        "value"
    ] == pytest.approx(values.std())


def test_conditional_precision(bench):
    of = {"of": {"column": "attempted", "equals": True}}
    tried, right = grid(bench.target, "attempted"), grid(bench.target)
    value = (right[:, 2] * tried[:, 2]).sum() / tried[:, 2].sum()
    found = bench.one("ratio", filter={**TARGET, "alpha": 3.0}, parameters=of, stream="serial")
    samples = [(right[p, 2] * tried[p, 2]).sum() / tried[p, 2].sum() for p in serial(42, 40)]
    assert found["value"] == pytest.approx(value)
    assert ends(found) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    gap = bench.one("ratio_difference", filter=TARGET, contrast=PAIR, parameters=of, stream="serial")
    before = (right[:, 0] * tried[:, 0]).sum() / tried[:, 0].sum()
    assert gap["value"] == pytest.approx(100 * (value - before))


def test_a_second_scoring_replaces_the_first(bench, rows_of):
    first = rows_of(3, doses=(1.0,), ruler="old")
    second = [{**row, "ruler": "new", "positive": True} for row in first[:10]]
    bench.table("twice", first + second)
    spec = {"table": "twice", "contrast": {"all": {"ruler": "old"}, "again": {"ruler": "new"}}}
    found = bench.one("rescored", **spec, parameters={"report": "count"})
    assert found["value"] == sum(row["positive"] for row in first[10:]) + 10


def test_curve_matches_a_serial_bootstrap_of_the_rates(bench):
    table, doses = grid(bench.target), np.array([0.0, 1.0, 3.0])
    spec = {"filter": TARGET, "parameters": {"interval": "bootstrap", "noop": 1.0}, "stream": "serial"}
    slope = bench.one("curve", **spec)
    samples = [line(doses, 100 * table[picked].mean(axis=0)) for picked in serial(42, 40)]
    assert slope["value"] == pytest.approx(line(doses, 100 * table.mean(axis=0)))
    assert ends(slope) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    change = bench.one("curve", **spec, part="noop_to_last")
    assert change["value"] == pytest.approx(100 * (table[:, 2] - table[:, 1]).mean())
    assert (slope["unit"], change["unit"]) == ("pp/dose", "pp")
    rounded = bench.one("curve", filter=TARGET, parameters={"interval": "none", "round_rates": 1})
    assert rounded["value"] == pytest.approx(line(doses, 100 * table.mean(axis=0).round(1)))
    default = {part: bench.one("curve", filter=TARGET, part=part) for part in ("slope", "first_to_last")}
    assert [record["method"] for record in default.values()] == ["adjusted_t", "tango"]
    assert default["first_to_last"]["value"] == pytest.approx(100 * (table[:, 2] - table[:, 0]).mean())
    graded = bench.one("curve", filter=TARGET, measure="score", unit="points/dose", part="first_to_last")
    assert (graded["method"], graded["unit"]) == ("t", "points")


def test_file_order_changes_the_draws_and_nothing_else(bench):
    spec = {"filter": TARGET, "parameters": {"interval": "bootstrap"}, "stream": "serial"}
    by_item, by_file = bench.one("curve", **spec), bench.one("curve", **spec, order="file")
    table = grid(bench.target, order="row_index")
    samples = [line([0, 1, 3], 100 * table[picked].mean(axis=0)) for picked in serial(42, 40)]
    assert ends(by_file) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    assert by_item["value"] == pytest.approx(by_file["value"])
    assert ends(by_item) != ends(by_file)
    listed = bench.one("curve", **spec, order=["row_index"])
    assert ends(listed) == ends(by_file)


def test_doses_resampled_on_their_own_may_lack_items(bench):
    kept = bench.target.filter(~((pl.col("alpha") == 3.0) & (pl.col("item_id") < "q005")))
    bench.table("gaps", kept)
    spec = {"table": "gaps", "pairing": "independent", "stream": "serial"}
    found = bench.one("curve", **spec)
    columns = [part.sort("item_id")["positive"].to_numpy() for part in kept.sort("alpha").partition_by("alpha")]
    assert [len(column) for column in columns] == [40, 40, 35]
    assert found["value"] == pytest.approx(line([0, 1, 3], [100 * column.mean() for column in columns]))
    rng, samples = np.random.default_rng(42), []
    for _ in range(400):
        samples.append(line([0, 1, 3], [100 * rng.choice(column, len(column)).mean() for column in columns]))
    assert ends(found) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    assert "3: 35" in found["note"]
    rng, means = np.random.default_rng(42), []
    for column in columns:
        means.append([rng.choice(column, len(column)).mean() for _ in range(400)])
    samples = [line([0, 1, 3], 100 * np.array(rates)) for rates in zip(*means, strict=True)]
    by_dose = bench.one("curve", **spec, parameters={"draws": "by_dose"})
    assert ends(by_dose) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    complete = bench.one("curve", table="gaps", pairing="complete", parameters={"interval": "bootstrap"})
    assert complete["n"] == 35
    assert "5 incomplete" in complete["note"]


def test_slope_difference_and_both_permutation_tests(bench):
    a = grid(bench.target)
    b = grid(bench.rows.filter((pl.col("condition") == "random") & (pl.col("control_seed") == 0)))
    gap = bench.one("slope_difference", contrast=ARMS, parameters={"interval": "bootstrap"}, stream="serial")
    value = line([0, 1, 3], 100 * (a - b).mean(axis=0))
    assert gap["value"] == pytest.approx(value)
    assert bench.one("slope_difference", contrast=ARMS, part="second")["value"] == pytest.approx(
        line([0, 1, 3], 100 * b.mean(axis=0))
    )
    paired = bench.one("slope_sign_flip", contrast=ARMS, seed=43, resamples=999)
    rng, hits = np.random.default_rng(43), 0
    for _ in range(999):
        signs = np.where(rng.random(40) < 0.5, -1, 1)
        hits += line([0, 1, 3], 100 * ((a - b) * signs[:, None]).mean(axis=0)) >= value - 1e-9
    assert paired["value"] == pytest.approx((hits + 1) / 1000)
    unpaired = bench.one("slope_permutation", contrast=ARMS, resamples=4000)
    assert unpaired["method"].startswith("unpaired")
    assert 1 / 4001 <= unpaired["value"] < 0.2
    independent = bench.one("slope_difference", contrast=ARMS, pairing="independent")
    assert independent["value"] == pytest.approx(value)


def test_trend_over_doses(bench):
    rates = grid(bench.target).mean(axis=0)
    found = bench.one("dose_trend", filter=TARGET)
    assert found["value"] == pytest.approx(scipy.stats.spearmanr([0, 1, 3], rates).statistic)
    assert bench.one("dose_trend", filter=TARGET, part="steps_up")["value"] == (np.diff(rates) > 0).sum()


def test_bounds_of_unscored_rows(bench):
    holes = bench.target.with_columns(
        pl.when(pl.col("row_index") < 4).then(None).otherwise(pl.col("positive")).alias("positive")
    )
    bench.table("holes", holes)
    table = grid(bench.target)
    lost = (np.arange(40) * 7 % 40) < 4
    yes, no = table.copy(), table.copy()
    yes[lost], no[lost] = 1, 0
    for part, filled in (("as_yes", yes), ("as_no", no)):
        found = bench.one("slope_bounds", table="holes", part=part)
        assert found["value"] == pytest.approx(line([0, 1, 3], 100 * filled.mean(axis=0)))
    low = bench.one("rate_bounds", table="holes", filter={"alpha": 1.0})
    assert low["value"] == pytest.approx(no[:, 1].mean())
    failed = pl.when(pl.col("row_index") < 4).then(pl.lit("timeout")).alias("error")
    bench.table("errors", bench.target.with_columns(failed))
    measure = {"column": "positive", "unless": "error"}
    for part in ("low", "high", "scored"):
        spec = {"filter": {"alpha": 1.0}, "part": part}
        through_error = bench.one("rate_bounds", table="errors", measure=measure, **spec)
        assert through_error == bench.one("rate_bounds", table="holes", **spec)


def test_paired_and_independent_differences(bench):
    table = grid(bench.target)
    gap = table[:, 2] - table[:, 0]
    score = bench.one("paired_difference", filter=TARGET, contrast=PAIR)
    assert (score["method"], score["unit"]) == ("tango", "pp")
    assert score["value"] == pytest.approx(100 * gap.mean())
    boot = bench.one(
        "paired_difference", filter=TARGET, contrast=PAIR, stream="serial", parameters={"interval": "bootstrap"}
    )
    samples = [100 * gap[picked].mean() for picked in serial(42, 40)]
    assert ends(boot) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    raw = bench.one("paired_difference", filter=TARGET, contrast=PAIR, measure="score")
    values = grid(bench.target, "score")
    assert raw["value"] == pytest.approx((values[:, 2] - values[:, 0]).mean())
    assert raw["unit"] == "value"
    apart = bench.one("independent_difference", filter=TARGET, contrast=PAIR)
    assert apart["value"] == pytest.approx(score["value"])
    assert apart["method"].startswith("independent")


def test_mcnemar_flips_and_transitions(bench):
    table = grid(bench.target)
    gained = int(((table[:, 2] == 1) & (table[:, 0] == 0)).sum())
    lost = int(((table[:, 2] == 0) & (table[:, 0] == 1)).sum())
    spec = {"filter": TARGET, "contrast": PAIR}
    exact = bench.one("mcnemar", **spec)
    assert exact["value"] == pytest.approx(scipy.stats.binomtest(min(gained, lost), gained + lost).pvalue)
    corrected = bench.one("mcnemar", **spec, part="statistic")["value"]
    assert corrected == pytest.approx((abs(gained - lost) - 1) ** 2 / (gained + lost))
    flips = {part: bench.one("flips", **spec, part=part)["value"] for part in ("gained", "lost", "net", "rescued")}
    assert (flips["gained"], flips["lost"], flips["net"]) == (gained, lost, gained - lost)
    assert flips["rescued"] == pytest.approx(gained / (table[:, 0] == 0).sum())
    labels = bench.target.pivot(on="alpha", index="item_id", values="label")
    moved = bench.one("transition", **spec, measure="label", parameters={"before": "no", "after": "yes"})
    assert moved["value"] == labels.filter((pl.col("0.0") == "no") & (pl.col("3.0") == "yes")).height
    hashes = bench.target.pivot(on="alpha", index="item_id", values="response_hash")
    changed = bench.one("changed", **spec, measure="response_hash")
    assert changed["value"] == hashes.filter(pl.col("0.0") != pl.col("3.0")).height


def test_agreement_of_two_rulers(bench, rows_of):
    first, second = rows_of(1, doses=(1.0,), ruler="a"), rows_of(2, doses=(1.0,), ruler="b")
    bench.table("judged", first + second)
    spec = {"table": "judged", "contrast": {"a": {"ruler": "a"}, "b": {"ruler": "b"}}}
    x, y = (np.array([row["positive"] for row in rows]) for rows in (first, second))
    assert bench.one("agreement", **spec, unit="%")["value"] == pytest.approx(100 * (x == y).mean())
    chance = x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean())
    kappa = bench.one("agreement", **spec, part="kappa")["value"]
    assert kappa == pytest.approx(((x == y).mean() - chance) / (1 - chance))
    graded = bench.one("concordance", **spec, measure="score")
    scores = [[row["score"] for row in rows] for rows in (first, second)]
    assert graded["value"] == pytest.approx(scipy.stats.spearmanr(*scores).statistic)


def test_tests_of_paired_values(bench):
    values = grid(bench.target, "value")
    gap = values[:, 2] - values[:, 0]
    spec = {"filter": TARGET, "contrast": PAIR, "measure": "value"}
    assert bench.one("wilcoxon", **spec)["value"] == pytest.approx(scipy.stats.wilcoxon(gap).pvalue)
    assert bench.one("wilcoxon", **spec, part="d")["value"] == pytest.approx(gap.mean() / gap.std(ddof=1))
    flip = bench.one("sign_flip", **spec, resamples=500, parameters={"side": "two-sided"})
    assert 1 / 501 <= flip["value"] <= 1
    assert bench.one("equivalence", **spec, unit="value", parameters={"margin": 50.0})["value"] < 1e-6
    z = scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)
    assert bench.one("mde", **spec, unit="value")["value"] == pytest.approx(z * gap.std(ddof=1) / 40**0.5)


def test_paths_and_turning_points(bench):
    rows = grid(bench.target)
    up = (rows[:, -1] > rows[:, 0]) & (np.abs(np.diff(rows)).sum(axis=1) == 1)
    found = bench.one("paths", filter=TARGET, parameters={"kind": "up"})
    assert found["value"] == up.sum()
    first = np.where(rows[up, 1] != rows[up, 0], 1.0, 3.0)
    turn = bench.one("paths", filter=TARGET, parameters={"kind": "up"}, part="mean_turn")
    assert turn["value"] == pytest.approx(first.mean())
    early = bench.one("paths", filter=TARGET, parameters={"kind": "up", "early": 1.0}, part="early")
    assert early["value"] == (first <= 1).sum()
    churn = bench.one("churn", filter=TARGET, parameters={"start": 1.0, "end": 3.0, "other_end": 0.0})
    assert churn["value"] == ((rows[:, 2] == 1) & (rows[:, 1] == 0)).sum()
    assert 0 <= bench.one("turn_test", filter=TARGET)["value"] <= 1


def test_control_sets(bench):
    slopes = [
        round(line([0, 1, 3], 100 * grid(part).mean(axis=0).round(4)), 2)
        for part in bench.rows.filter(pl.col("condition") == "random").partition_by("control_seed")
    ]
    parameters = {"round_rates": 4, "round_statistic": 2}
    found = bench.one("control_interval", filter={"condition": "random"}, parameters=parameters)
    assert found["value"] == pytest.approx(np.mean(slopes))
    assert ends(found) == pytest.approx(tuple(np.quantile(slopes, [0.025, 0.975])))
    assert found["n"] == 5
    rate = bench.one("control_interval", filter={"condition": "random"}, part="max", parameters={"statistic": "rate"})
    assert 0 < rate["value"] <= 100
    arms = {"target": TARGET, "sets": {"condition": "random"}}
    rank = bench.one("specificity", contrast=arms, part="p")
    assert rank["value"] == pytest.approx(1 / 6)
    assert "0.167" in rank["note"]
    assert bench.one("specificity", contrast=arms)["low"] is not None


def oracle_metrics(truth, score, threshold=0.5):
    said = score >= threshold
    tp, fp, fn = (truth & said).sum(), (~truth & said).sum(), (truth & ~said).sum()
    ranks = scipy.stats.rankdata(score)
    p, q = truth.sum(), (~truth).sum()
    return {
        "accuracy": (truth == said).mean(),
        "precision": tp / (tp + fp),
        "recall": tp / p,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "auroc": (ranks[truth].sum() - p * (p + 1) / 2) / (p * q),
    }


def test_classifier_draws_positives_then_negatives(bench):
    rows = bench.target.filter(pl.col("alpha") == 1.0).sort("item_id")
    truth, score = rows["gold"].to_numpy(), rows["score"].to_numpy()
    spec = {"filter": {**TARGET, "alpha": 1.0}, "measure": "score", "parameters": {"threshold": 2}}
    rng, drawn = np.random.default_rng(42), []
    yes, no = np.flatnonzero(truth), np.flatnonzero(~truth)
    for _ in range(400):
        picked = np.concatenate([rng.choice(yes, len(yes)), rng.choice(no, len(no))])
        drawn.append(oracle_metrics(truth[picked], score[picked], 2))
    for name, value in oracle_metrics(truth, score, 2).items():
        found = bench.one("classifier", **spec, part=name)
        assert found["value"] == pytest.approx(value), name
        bounds = np.quantile([one[name] for one in drawn], [0.025, 0.975])
        assert ends(found) == pytest.approx(tuple(bounds)), name
    counts = [bench.one("classifier", **spec, part=f"{a}_{b}")["value"]
              for a in ("true", "false") for b in ("positives", "negatives")]  # fmt: skip
    assert sum(counts) == 40


def test_classifier_over_clusters_in_both_conventions(bench):
    rows = bench.target.sort("item_id", "alpha")
    truth, said = rows["gold"].to_numpy(), rows["positive"].to_numpy()
    names = sorted(set(rows["cluster_id"]))
    members = {name: np.flatnonzero((rows["cluster_id"] == name).to_numpy()) for name in names}
    spec = {"filter": TARGET, "clusters": "cluster_id", "part": "accuracy"}

    def accuracy(drawn):
        picked = np.concatenate([members[name] for name in drawn])
        return (truth[picked] == said[picked]).mean()

    rng = np.random.default_rng(42)
    samples = [accuracy(rng.choice(names, len(names))) for _ in range(400)]
    found = bench.one("classifier", **spec, stream="serial", parameters={"resample": "clusters"})
    assert ends(found) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    assert found["clusters"] == 10
    source = random.Random(42)
    samples = sorted(accuracy(source.choices(names, k=len(names))) for _ in range(400))
    ordered = {"resample": "clusters", "convention": "order_statistics"}
    found = bench.one("classifier", **spec, parameters=ordered)
    assert ends(found) == pytest.approx((samples[9], samples[389]))


def test_classifier_analytic_and_difference_of_areas(bench):
    spec = {"filter": {**TARGET, "alpha": 1.0}, "measure": "score", "part": "auroc"}
    assert bench.one("classifier", **spec, parameters={"interval": "analytic"})["method"] == "delong_logit"
    rows = bench.target.filter(pl.col("alpha") == 1.0)
    other = rows.with_columns(pl.col("value").alias("score"), pl.lit("probe").alias("condition"))
    bench.table("two", pl.concat([rows, other]))
    arms = {"a": TARGET, "b": {"condition": "probe"}}
    gap = bench.one("auroc_difference", table="two", contrast=arms, measure="score")
    areas = [oracle_metrics(f["gold"].to_numpy(), f["score"].to_numpy())["auroc"] for f in (rows, other)]
    assert gap["value"] == pytest.approx(areas[0] - areas[1])


def test_groups_and_contingency(bench):
    rows = bench.target.filter(pl.col("alpha") == 0.0)
    groups = {name: rows.filter(pl.col("label") == name)["value"].to_numpy() for name in ("borderline", "no", "yes")}
    spec = {"filter": {**TARGET, "alpha": 0.0}, "measure": "value", "parameters": {"by": "label"}}
    assert bench.one("kruskal", **spec)["value"] == pytest.approx(scipy.stats.kruskal(*groups.values()).pvalue)
    pair = scipy.stats.mannwhitneyu(groups["no"], groups["yes"], alternative="two-sided").pvalue
    assert bench.one("kruskal", **spec, part="no vs yes")["value"] == pytest.approx(min(1, 3 * pair))
    table = rows.pivot(on="score", index="label", values="item_id", aggregate_function="len").fill_null(0)
    numbers = table.drop("label").to_numpy()
    oracle = scipy.stats.chi2_contingency(numbers)
    spec = {"filter": {**TARGET, "alpha": 0.0}, "parameters": {"rows": "label", "columns": "score"}}
    assert bench.one("chi_square", **spec)["value"] == pytest.approx(oracle.pvalue)
    v = (oracle.statistic / (40 * (min(numbers.shape) - 1))) ** 0.5
    assert bench.one("chi_square", **spec, part="cramers_v")["value"] == pytest.approx(v)


def test_rank_correlation_bootstrap(bench):
    rows = bench.target.filter(pl.col("alpha") == 0.0).sort("item_id")
    x, y = rows["value"].to_numpy(), rows["score"].to_numpy()
    spec = {"filter": {**TARGET, "alpha": 0.0}, "measure": "value", "stream": "serial"}
    found = bench.one("spearman", **spec, parameters={"other": "score", "interval": "bootstrap"})
    samples = [scipy.stats.spearmanr(x[p], y[p]).statistic for p in serial(42, 40)]
    assert found["value"] == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert ends(found) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))


def test_folds_pool_in_their_order_and_panels_pair_over_two_keys(bench, rows_of):
    folds = [
        {**row, "fold": fold, "item_id": f"{9 - fold}{row['item_id']}"}
        for fold in (0, 1)
        for row in rows_of(fold, items=20, doses=(0.0, 2.0))
    ]
    frame = bench.table("folds", folds)
    spec = {"contrast": {"tuned": {"alpha": 2.0}, "base": {"alpha": 0.0}}, "measure": "value", "stream": "serial"}
    found = bench.one(
        "paired_difference", table="folds", **spec, order=["fold", "item_id"], parameters={"interval": "bootstrap"}
    )
    ordered = frame.sort("fold", "item_id").partition_by("alpha")
    gap = ordered[1]["value"].to_numpy() - ordered[0]["value"].to_numpy()
    samples = [gap[picked].mean() for picked in serial(42, 40)]
    assert ends(found) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    panel = pl.DataFrame(rows_of(5, ruler="a") + rows_of(6, ruler="b"), infer_schema_length=None)
    panel = panel.with_columns(pl.when(pl.col("ruler") == "b").then(pl.lit("v3")).alias("csv2_schema"))
    bench.table("panel", panel)
    right = {"column": "positive", "same_as": "gold"}
    arms = {"a": {"ruler": "a"}, "b": {"ruler": "b"}}
    both = bench.one("mcnemar", table="panel", contrast=arms, key=["item_id", "alpha"], measure=right, part="gained")
    a, b = (
        (part["positive"] == part["gold"]).to_numpy() for part in panel.sort("item_id", "alpha").partition_by("ruler")
    )
    assert both["value"] == (a & ~b).sum()
