"""The sixteen exact tests, and where each stands: the table is checked, so that none can be lost by a rename."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

SIXTEEN: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "conjugate regression to rounding",
        (
            "exact/test_posteriors.py::test_conjugate_regression_to_rounding",
            "algorithms/test_fixed_draws.py::test_full_rank_is_exact_on_a_gaussian",
        ),
    ),
    2: (
        "IWAE of Gamma weights: digamma and trigamma",
        ("exact/test_weights.py::test_iwae_of_gamma_weights_has_digamma_for_its_mean_and_trigamma_for_its_variance",),
    ),
    3: ("JVI of Gamma weights", ("exact/test_weights.py::test_jackknife_of_gamma_weights",)),
    4: (
        "bias orders 1, 2, 3, 4 on inverse-Gaussian weights",
        ("exact/test_weights.py::test_jackknife_orders_on_inverse_gaussian_weights",),
    ),
    5: (
        "JVI is the average over subsets, in single precision too",
        (
            "objectives/test_jvi.py::test_closed_forms_are_the_average_over_subsets",
            "objectives/test_jvi.py::test_single_precision_keeps_its_digits_at_256_particles",
        ),
    ),
    6: (
        "variance of leave-one-out; VarGrad is the same",
        (
            "exact/test_gradients.py::test_leave_one_out_has_the_variance_of_its_closed_form",
            "exact/test_gradients.py::test_vargrad_is_leave_one_out",
        ),
    ),
    7: (
        "sticking the landing has no noise at the posterior; signal-to-noise slopes -1/2 and +1/2",
        (
            "exact/test_gradients.py::test_sticking_the_landing_has_no_noise_at_the_posterior",
            "conformance/test_gradient.py::test_sticking_the_landing_is_zero_at_the_posterior",
            "conformance/test_gradient.py::test_pathwise_keeps_the_noise_of_the_score_at_the_posterior",
            "exact/test_gradients.py::test_signal_to_noise_against_the_number_of_particles",
        ),
    ),
    8: (
        "mean field of a Gaussian, linear response, forward KL",
        (
            "algorithms/test_fixed_draws.py::test_mean_field_of_a_gaussian_and_its_linear_response",
            "exact/test_gradients.py::test_forward_kl_takes_the_posteriors_own_variances",
        ),
    ),
    9: (
        "one natural step, one step of batch and match",
        (
            "algorithms/test_fixed_draws.py::test_full_rank_is_exact_on_a_gaussian",
            "algorithms/test_batch_and_match.py::test_one_step_recovers_a_gaussian",
        ),
    ),
    10: (
        "mean field of the funnel",
        (
            "exact/test_posteriors.py::test_mean_field_of_the_funnel",
            "algorithms/test_fixed_draws.py::test_mean_field_of_the_funnel",
        ),
    ),
    11: (
        "k-hat of Gaussian and Student pairs",
        (
            "diagnostics/test_pareto.py::test_khat_of_a_narrow_gaussian",
            "exact/test_weights.py::test_khat_of_a_student_under_a_lighter_student",
            "exact/test_weights.py::test_khat_of_a_student_under_a_gaussian_is_one",
        ),
    ),
    12: ("power moments, CUBO", ("exact/test_weights.py::test_power_moments_of_gaussian_weights",)),
    13: (
        "annealing with exact transitions, thermodynamic integration",
        (
            "exact/test_weights.py::test_annealing_with_exact_transitions",
            "exact/test_weights.py::test_the_thermodynamic_integral_is_the_log_evidence",
        ),
    ),
    14: (
        "eight schools: evidence and moments",
        (
            "fitting/test_fit.py::test_eight_schools_against_quadrature",
            "algorithms/test_smc.py::test_eight_schools_against_quadrature",
            "fitting/test_evidence.py::test_the_interval_holds_the_exact_evidence",
        ),
    ),
    15: (
        "Cox process: the best Gaussian; on 1,600 cells, 498.8034, by `make bench-evidence`",
        ("exact/test_posteriors.py::test_a_small_cox_process_against_its_closed_form_and_brute_force",),
    ),
    16: (
        "implicit gradients of a Gamma; moments of pre-activations; weights of a KL term sum to one",
        (
            "exact/test_gradients.py::test_implicit_gradients_of_a_gamma",
            "nn/test_rows.py::test_moments_of_pre_activations",
            "mistakes/test_shapes_and_data.py::test_case_25_weights_that_do_not_sum_to_one",
        ),
    ),
}


def test_there_are_sixteen():
    assert list(SIXTEEN) == list(range(1, 17))


@pytest.mark.parametrize("number", SIXTEEN)
def test_each_stands_where_the_table_says(number: int):
    for place in SIXTEEN[number][1]:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{number}, {SIXTEEN[number][0]}: no {place}"
