"""Planted errors: each must be noticed by the tests named beside it.

A mutant whose text no longer matches the source, or whose tests are gone, fails loudly.
"""

import os

import pytest
from mutation import Mutant, mutant, plant, run_tests

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants need os.fork")

ASSIGNMENT = "prototypes/test_assignment_rules.py::"
LABELS = "prototypes/test_prototype_labels.py::"
NEIGHBORS = "neighbors/test_nearest_neighbors.py::"
SWEEP = "neighbors/test_sweep.py::"
RELIABILITY = "test_reliability.py::"
MASKED = "losses/test_masked_losses.py::"
SCL = "losses/test_soft_contrastive.py::"
CONSISTENCY = "losses/test_consistency.py::"
THRESHOLDS = "test_thresholds.py::"
HEADS = "test_heads.py::"
METRICS = "test_metrics.py::"

MUTANTS = [
    # --- prototypes ------------------------------------------------------------------------------
    mutant(
        "unstable-ties",
        "_numerics.py",
        "torch.sort(x, dim=-1, descending=True, stable=True)",
        "torch.topk(x, x.shape[-1], dim=-1)",
        "prototypes/test_select_confident.py::test_saturated_probabilities_go_to_the_lowest_index",
    ),
    mutant(
        "ties-to-the-highest",
        "_numerics.py",
        "    return values, indices\n",
        "    values, indices = torch.sort(x.flip(-1), dim=-1, descending=True, stable=True)\n"
        "    return values, x.shape[-1] - 1 - indices\n",
        "prototypes/test_select_confident.py::test_equals_the_oracle",
    ),
    mutant(
        "ratios-as-floats",
        "prototypes/_counts.py",
        "exact.numerator * n // exact.denominator",
        "int(ratio * n)",
        LABELS + "test_ratios_by_hand",
    ),
    mutant(
        "empty-share-allowed",
        "prototypes/_counts.py",
        "max(1, exact.numerator * n // exact.denominator)",
        "exact.numerator * n // exact.denominator",
        LABELS + "test_a_share_of_one_still_makes_a_prototype",
    ),
    mutant(
        "surplus-off-the-last-largest-share",
        "prototypes/_counts.py",
        "shares[shares.index(max(shares))] -= 1",
        "shares[max(range(len(shares)), key=lambda c: (shares[c], c))] -= 1",
        LABELS + "test_priors_by_hand",
    ),
    mutant(
        "centre-of-rows-not-normalised",
        "prototypes/labels.py",
        'if metric == "cosine":\n        averaged',
        "if False:\n        averaged",
        LABELS + "test_rows_are_normalised_under_cosine_alone",
    ),
    mutant(
        "free-places-averaged",
        "prototypes/selection.py",
        "chosen = (indices >= 0).double()",
        "chosen = torch.ones_like(indices).double()",
        "prototypes/test_class_prototypes.py::"
        "test_free_places_are_skipped_and_never_read_as_the_last_row",
    ),
    mutant(
        "greedy-in-index-order",
        "prototypes/assignment.py",
        '"greedy": greedy_owners',
        '"greedy": sequential_owners',
        ASSIGNMENT + "test_equals_the_literal_rule_from_end_to_end",
    ),
    mutant(
        "greedy-cuts-off-one-too-late",
        "prototypes/_exclusive.py",
        "(held < quotas).sum(-1, keepdim=True) + 1",
        "(held <= quotas).sum(-1, keepdim=True) + 1",
        ASSIGNMENT + "test_equals_the_literal_rule_from_end_to_end",
    ),
    mutant(
        "contested-sample-to-the-last-cluster",
        "prototypes/_exclusive.py",
        "closest = similarity.masked_fill(~chosen, -torch.inf).argmax(-2)",
        "closest = len(counts) - 1 - "
        "similarity.masked_fill(~chosen, -torch.inf).flip(-2).argmax(-2)",
        ASSIGNMENT + "test_equals_the_literal_rule_from_end_to_end",
    ),
    mutant(
        "confidence-upside-down",
        "prototypes/labels.py",
        '1 - relative if kind == "one_minus" else relative',
        'relative if kind == "one_minus" else 1 - relative',
        "prototypes/test_pseudo_labels.py::test_confidence_equals_the_oracle",
    ),
    # --- neighbours ------------------------------------------------------------------------------
    mutant(
        "self-among-the-neighbours",
        "neighbors/_sweep.py",
        "scores.scatter_(1, rows.unsqueeze(1), -torch.inf)",
        "pass",
        NEIGHBORS + "test_equals_the_oracle",
    ),
    mutant(
        "self-for-a-duplicate",
        "neighbors/_sweep.py",
        "scores.scatter_(1, rows.unsqueeze(1), -torch.inf)",
        "pass",
        NEIGHBORS + "test_a_duplicate_is_a_neighbour_whatever_its_place",
    ),
    mutant(
        "queries-lost-between-groups",
        "neighbors/_search.py",
        "for start in range(first, count, size)]",
        "for start in range(first, max(1, count - size + 1), size)]",
        SWEEP + "test_groups_of_queries_are_all_searched",
    ),
    mutant(
        "ties-to-the-highest-neighbour",
        "neighbors/_scoring.py",
        "indices = indices.sort(dim=1).values",
        "indices = indices.sort(dim=1, descending=True).values",
        NEIGHBORS + "test_equals_the_oracle",
    ),
    mutant(
        "near-ties-left-behind",
        "neighbors/_filter.py",
        "(wide - slack - _half_unit(wide, kth.dtype)).to(kth.dtype)",
        "kth",
        NEIGHBORS + "test_near_ties_hide_nobody_behind_the_candidates",
    ),
    mutant(
        "rounded-scores-decide",
        "neighbors/_scoring.py",
        "touched[:, 1:] |= close",
        "touched &= False",
        NEIGHBORS + "test_sums_of_the_same_numbers_tie_in_whatever_order",
    ),
    mutant(
        "certain-without-slack",
        "neighbors/_filter.py",
        "limit = limit + slack + _half_unit(limit, kth.dtype)",
        "pass",
        SWEEP + "test_near_ties_are_not_certain",
    ),
    mutant(
        "guess-trusted-when-too-high",
        "neighbors/_strip.py",
        "self.settled = kth >= self.kth",
        "self.settled = kth > -torch.inf",
        SWEEP + "test_a_query_settles_only_if_nobody_near_its_kth_score_was_left_out",
    ),
    # --- reliability -----------------------------------------------------------------------------
    mutant(
        "loose-for-strict",
        "reliability/_votes.py",
        "exact.numerator // exact.denominator + 1 if strict else -(-exact // 1)",
        "-(-exact // 1)",
        RELIABILITY + "test_mask_equals_the_oracle",
    ),
    mutant(
        "strict-for-loose",
        "reliability/_votes.py",
        "exact.numerator // exact.denominator + 1 if strict else -(-exact // 1)",
        "exact.numerator // exact.denominator + 1",
        RELIABILITY + "test_mask_equals_the_oracle",
    ),
    mutant(
        "threshold-as-a-float",
        "_numerics.py",
        "simple = exact.limit_denominator(10**6)",
        "simple = exact = Fraction(float(x))",
        RELIABILITY + "test_every_percentage_is_read_as_a_decimal",
    ),
    mutant(
        "unlabelled-agree-with-each-other",
        "reliability/_votes.py",
        "return torch.where(given >= 0, torch.cat(counts, dim=-1), 0)",
        "return torch.cat(counts, dim=-1)",
        RELIABILITY + "test_unlabelled_samples_agree_with_nobody",
    ),
    mutant(
        "confidence-at-its-minimum",
        "reliability/labels.py",
        "wide.amax(-1) > limit",
        "wide.amax(-1) >= limit",
        RELIABILITY + "test_confidence_must_be_strictly_above",
    ),
    mutant(
        "balanced-to-the-largest",
        "reliability/labels.py",
        "survivors.min() if num_classes",
        "survivors.max() if num_classes",
        RELIABILITY + "test_balance_cuts_every_class_to_the_smallest",
    ),
    # --- losses ----------------------------------------------------------------------------------
    mutant(
        "single-softmax",
        "losses/cross_entropy.py",
        "once = softmax(_masked(logits, valid), dim=-1)",
        "once = _masked(logits, valid)",
        "losses/test_double_softmax.py::test_floor_is_reached_by_a_sure_and_right_prediction",
    ),
    mutant(
        "mean-over-the-valid-instead-of-b",
        "losses/cross_entropy.py",
        "reduce(losses, logits.shape[-2], reduction",
        "reduce(losses, valid.sum(-1), reduction",
        CONSISTENCY + "test_mean_divides_by_the_whole_batch",
    ),
    mutant(
        "mean-over-b-instead-of-the-valid",
        "losses/cross_entropy.py",
        "reduce(losses, valid.sum(-1), reduction",
        "reduce(losses, logits.shape[-2], reduction",
        MASKED + "test_every_reduction_equals_the_reference[double_softmax]",
    ),
    mutant(
        "ignored-rows-reach-the-gradient",
        "losses/cross_entropy.py",
        "widen(torch.where(valid.unsqueeze(-1), scores, 0))",
        "widen(scores)",
        MASKED + "test_an_extra_ignored_row_may_hold_anything",
    ),
    mutant(
        "ignore-index-instead-of-minus-one",
        "losses/_reduction.py",
        "valid = (labels != -1) & (labels != ignore_index)",
        "valid = labels != ignore_index",
        MASKED + "test_ignore_index_is_honoured_besides_minus_one",
    ),
    mutant(
        "nothing-to-learn-is-nan",
        "losses/_reduction.py",
        "count.clamp(min=1) if isinstance(count, Tensor)",
        "count if isinstance(count, Tensor)",
        MASKED + "test_nothing_to_learn_from_is_exactly_zero_with_a_live_graph",
    ),
    mutant(
        "computed-in-half-precision",
        "losses/_reduction.py",
        "return x if x.dtype == torch.float64 else x.float()",
        "return x",
        MASKED + "test_half_precision_in_float32_inside",
    ),
    mutant(
        "constants-get-a-gradient",
        "losses/_reduction.py",
        "values.detach()",
        "values",
        MASKED + "test_predictions_get_a_gradient_and_constants_do_not",
    ),
    mutant(
        "ignored-row-counted-as-a-negative",
        "losses/contrastive.py",
        "pairs = pairs & valid.unsqueeze(-1) & valid.unsqueeze(-2)",
        "pass",
        SCL + "test_ignored_entries_are_negatives_of_nobody",
    ),
    mutant(
        "own-label-counted-as-a-negative",
        "losses/contrastive.py",
        "pairs = labels.unsqueeze(-1) != labels.unsqueeze(-2)",
        "pairs = ~torch.eye(labels.shape[-1], dtype=torch.bool)",
        SCL + "test_entries_of_the_same_label_are_not_negatives",
    ),
    mutant(
        "include-positive-lost",
        "losses/contrastive.py",
        "if include_positive:",
        "if False:",
        SCL + "test_including_the_positive_keeps_the_loss_above_zero",
    ),
    mutant(
        "sample-ids-lost",
        "losses/contrastive.py",
        "pairs = pairs & (sample_ids.unsqueeze(-1) != sample_ids.unsqueeze(-2))",
        "pass",
        SCL + "test_copies_under_two_labels_do_not_repel_each_other",
    ),
    mutant(
        "literal-mode-sees-the-confidence",
        "losses/contrastive.py",
        'confidence_mode == "scale":',
        'confidence_mode in ("scale", "literal"):',
        SCL + "test_literal_mode_is_blind_to_the_confidence",
    ),
    mutant(
        "one-class-batch-is-minus-infinity",
        "losses/contrastive.py",
        "return torch.where(some.squeeze(-1), exponents.logsumexp(-1), 0)",
        "return exponents.logsumexp(-1)",
        SCL + "test_a_batch_of_one_class_keeps_only_the_numerator",
    ),
    mutant(
        "products-in-bfloat16-under-autocast",
        "losses/contrastive.py",
        "with without_autocast(units.device):",
        "if True:",
        MASKED + "test_autocast_changes_nothing",
    ),
    mutant(
        "entropy-upside-down",
        "losses/cross_entropy.py",
        "return (mean * mean.clamp",
        "return -(mean * mean.clamp",
        CONSISTENCY + "test_descending_on_the_entropy_spreads_the_mean_prediction",
    ),
    # --- thresholds ------------------------------------------------------------------------------
    mutant(
        "loose-for-strict-threshold",
        "thresholds.py",
        "confidence > thresholds if strict else confidence >= thresholds",
        "confidence >= thresholds",
        THRESHOLDS + "test_a_probability_exactly_at_the_threshold",
    ),
    mutant(
        "update-after-select",
        "thresholds.py",
        "        if self.training:\n            self._update(probs)\n",
        "        before = self.thresholds\n"
        "        if self.training:\n            self._update(probs)\n",
        THRESHOLDS + "test_it_updates_before_it_selects",
        then=[("_select(probs, self.thresholds, self", "_select(probs, before, self")],
    ),
    mutant(
        "eval-mode-updates",
        "thresholds.py",
        "if self.training:",
        "if True:",
        THRESHOLDS + "test_eval_mode_only_selects",
    ),
    mutant(
        "empty-batch-counts",
        "thresholds.py",
        "(1 - self.momentum) * (sums[-1] > 0)",
        "(1 - self.momentum) * (sums[-1] >= 0)",
        THRESHOLDS + "test_an_empty_batch_changes_nothing",
    ),
    mutant(
        "one-threshold-for-all-classes",
        "thresholds.py",
        "self.mean_confidence * self.mean_probs / torch.where(largest > 0, largest, 1)",
        "self.mean_confidence.expand(self.num_classes)",
        THRESHOLDS + "test_each_class_has_its_own_threshold",
    ),
    mutant(
        "statistics-in-half-precision",
        "thresholds.py",
        "return x.to(moved.device)",
        "return moved",
        THRESHOLDS + "test_statistics_stay_float32_in_a_half_precision_model",
    ),
    mutant(
        "ranks-apart",
        "thresholds.py",
        "dist.all_reduce(sums, group=self.process_group)",
        "pass",
        THRESHOLDS + "test_two_processes_agree_with_one_on_the_joint_batch",
    ),
    # --- heads and metrics -----------------------------------------------------------------------
    mutant(
        "always-the-first-head",
        "heads.py",
        '"weight": self.weight1[index]',
        '"weight": self.weight1[0]',
        HEADS + "test_batched_heads_equal_their_plain_copies",
    ),
    mutant(
        "nan-wins",
        "heads.py",
        "candidates = (~missing).nonzero()[:, 0]",
        "candidates = torch.arange(len(losses))",
        HEADS + "test_the_smallest_loss_wins",
    ),
    mutant(
        "unknown-targets-counted",
        "metrics.py",
        "known = target >= 0",
        "known = target >= -1",
        METRICS + "test_unknown_targets_are_left_out",
    ),
    mutant(
        "unlabelled-matched-with-a-class",
        "metrics.py",
        "named = clusters[rows] >= 0",
        "named = rows >= 0",
        METRICS + "test_predictions_of_minus_one_are_wrong",
    ),
    mutant(
        "recalls-do-not-decide",
        "metrics.py",
        " + table / table.sum(axis=0)",
        "",
        METRICS + "test_metric_equals_the_reference",
        METRICS + "test_balanced_accuracy_worked_by_hand",
    ),
    # --- checks ----------------------------------------------------------------------------------
    mutant(
        "infinity-passes",
        "_checks.py",
        "not torch.isfinite(x).all()",
        "torch.isnan(x).any()",
        "test_bad_input.py::test_a_mistake_is_named",
    ),
]


@pytest.mark.parametrize("planted", MUTANTS, ids=lambda planted: planted.name)
def test_the_error_is_noticed(planted, tmp_path):
    report = tmp_path / "report.txt"
    outcome = run_tests(plant(planted, tmp_path), planted.tests, report)
    assert outcome == pytest.ExitCode.TESTS_FAILED, f"{outcome}\n{report.read_text()}"


def test_without_an_error_nothing_is_noticed(tmp_path):
    unchanged = Mutant("unchanged", "__init__.py", (), ())
    one_a_file = {test.partition("::")[0]: test for planted in MUTANTS for test in planted.tests}
    report = tmp_path / "report.txt"
    outcome = run_tests(plant(unchanged, tmp_path), list(one_a_file.values()), report)
    assert outcome == pytest.ExitCode.OK, report.read_text()


def test_names_are_unique():
    assert len({planted.name for planted in MUTANTS}) == len(MUTANTS)


def test_a_pattern_that_is_gone_is_reported(tmp_path):
    stale = mutant("stale", "heads.py", "no such text", "anything", "test_heads.py")
    with pytest.raises(pytest.fail.Exception, match="0 matches of 'no such text'"):
        plant(stale, tmp_path)


def test_tests_that_are_gone_are_no_kill(tmp_path):
    unchanged = Mutant("unchanged", "__init__.py", (), ())
    outcome = run_tests(plant(unchanged, tmp_path), [HEADS + "test_gone"], tmp_path / "report.txt")
    assert outcome == pytest.ExitCode.USAGE_ERROR
