from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.checkpoint import load_state, save_state
from plaudit.core.errors import BadInput
from plaudit.core.schedules import (
    Constant,
    Controller,
    Cosine,
    Exponential,
    LagrangeMultiplier,
    Linear,
    Piecewise,
    Schedule,
    TargetController,
    Weight,
    value_of,
    weight_from_spec,
    weight_spec,
)

PROGRESS = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]


# --- schedules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "formula"), [
    (Constant(3.0), lambda p: 3.0),
    (Linear(2.0, -1.0), lambda p: 2 - 3 * p),
    (Cosine(2.0, -1.0), lambda p: -1 + 3 * math.cos(math.pi * p / 2) ** 2),
    (Exponential(8.0, 0.5), lambda p: 8 * 16**-p),
    (Exponential(-1.0, -4.0), lambda p: -(2 ** (2 * p))),
    (Linear(0.0, 1.0, begin=0.25, until=0.75), lambda p: min(max(2 * p - 0.5, 0), 1)),
    (Piecewise([(0.0, 1.0), (0.5, 3.0), (1.0, 0.0)]), lambda p: 1 + 4 * p if p <= 0.5 else 6 - 6 * p),
    (Piecewise([(0.25, 1.0), (0.5, 3.0)]), lambda p: 1 if p <= 0.25 else min(8 * p - 1, 3)),
    (Piecewise([(0.0, 1.0), (0.5, 3.0)], hold=True), lambda p: 1 if p < 0.5 else 3),
    (Piecewise([(0.0, 1.0), (0.5, 1.0), (0.5, 3.0), (1.0, 3.0)]), lambda p: 1 if p < 0.5 else 3),
])
def test_schedules_follow_their_closed_form(schedule: Schedule, formula: Any) -> None:
    assert [schedule(p) for p in PROGRESS] == pytest.approx([formula(p) for p in PROGRESS], abs=1e-12)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1))
def test_between_its_ends_a_schedule_never_leaves_them(start: float, end: float, p: float) -> None:
    for kind in (Linear, Cosine):
        assert min(start, end) - 1e-12 <= kind(start, end)(p) <= max(start, end) + 1e-12
        assert kind(start, end)(0.0) == start and kind(start, end)(1.0) == end


def test_progress_beyond_an_end_counts_as_that_end() -> None:
    assert Linear(0.0, 1.0)(-3.0) == 0.0 and Linear(0.0, 1.0)(1.0000001) == 1.0
    with pytest.raises(BadInput, match="progress"):
        Linear(0.0, 1.0)(math.nan)


def test_schedules_are_values() -> None:
    assert Linear(0.0, 1.0) == Linear(0, 1) and {Piecewise([(0.0, 1.0)]): 1}[Piecewise(((0.0, 1.0),))] == 1
    with pytest.raises(AttributeError):
        Linear(0.0, 1.0).start = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("make", [
    lambda: Constant(math.nan), lambda: Linear(0.0, math.inf), lambda: Linear(0.0, 1.0, begin=0.5, until=0.5),
    lambda: Linear(0.0, 1.0, begin=-0.1), lambda: Cosine(0.0, 1.0, until=1.1), lambda: Exponential(1.0, 0.0),
    lambda: Exponential(1.0, -1.0), lambda: Piecewise([]), lambda: Piecewise([(0.5, 1.0), (0.4, 1.0)]),
    lambda: Piecewise([(0.0, math.nan)]), lambda: Piecewise([(0.0, 1.0), (1.5, 1.0)]),
    lambda: LagrangeMultiplier("", 1.0), lambda: LagrangeMultiplier("c", math.nan),
    lambda: LagrangeMultiplier("c", 1.0, rate=0.0), lambda: LagrangeMultiplier("c", 1.0, initial=-1.0),
    lambda: LagrangeMultiplier("c", 1.0, min=2.0, max=1.0), lambda: LagrangeMultiplier("c", 1.0, initial=0.0, log=True),
    lambda: LagrangeMultiplier("c", 1.0, min=-1.0), lambda: TargetController("k", 0.0),
    lambda: TargetController("k", Linear(0.0, 1.0)), lambda: TargetController("k", 1.0, rate=-1.0),
    lambda: TargetController("k", 1.0, initial=math.inf), lambda: TargetController("k", 1.0, min=0.0),
    lambda: TargetController("k", 1.0, scale=0.0), lambda: TargetController("k", 1.0, initial=2.0, max=1.5),
])
def test_bad_arguments_are_refused(make: Any) -> None:
    with pytest.raises(BadInput):
        make()


# --- controllers ------------------------------------------------------------------------------------


def cost_at(price: float) -> float:
    """A planted system: the dearer, the less; the cost is at the limit 0.2 where the price is 3."""
    return 0.8 / (1 + price)


def run(controller: Controller, steps: int, metric: Any, name: str) -> list[float]:
    values: list[float] = []
    for i in range(steps):
        controller.update(i / steps, {name: metric(controller.value)})
        values.append(controller.value)
    return values


@pytest.mark.parametrize("price", [
    LagrangeMultiplier("cost", 0.2, rate=2.0), LagrangeMultiplier("cost", 0.2, rate=1.0, log=True),
    LagrangeMultiplier("cost", 0.2, rate=1.0, log=True, initial=100.0),
    TargetController("cost", 0.2, rate=0.2), TargetController("cost", 0.2, rate=0.2, initial=50.0),
], ids=lambda c: f"{type(c).__name__}-{c.value}")
def test_a_controller_reaches_the_planted_fixed_point(price: Controller) -> None:
    assert run(price, 600, cost_at, "cost")[-1] == pytest.approx(3.0, rel=1e-3)


def test_a_controller_of_the_wrong_sign_does_not_reach_it() -> None:
    wrong = TargetController("cost", 0.2, rate=0.2, lowers=False)
    assert run(wrong, 600, cost_at, "cost")[-1] == wrong.min


def test_a_number_that_raises_its_metric_reaches_its_target() -> None:
    gain = TargetController("entropy", 0.6, rate=0.3, lowers=False)
    assert run(gain, 500, lambda v: v / (1 + v), "entropy")[-1] == pytest.approx(1.5, rel=1e-3)


def test_a_constraint_that_does_not_bind_costs_nothing() -> None:
    price = LagrangeMultiplier("cost", 0.9, rate=1.0, initial=2.0)
    assert run(price, 50, cost_at, "cost")[-1] == 0.0


def test_at_least_prices_a_metric_that_is_too_low() -> None:
    price = LagrangeMultiplier("success", 0.9, rate=1.0, at_least=True)
    price.update(0.0, {"success": 0.4})
    assert price.value == pytest.approx(0.5)


def test_a_limit_may_move_with_the_run() -> None:
    price = LagrangeMultiplier("cost", Linear(1.0, 0.0), rate=1.0)
    price.update(0.25, {"cost": 1.0})
    assert price.value == pytest.approx(0.25)


def test_bounds_hold_whatever_is_measured() -> None:
    plain, log = (LagrangeMultiplier("m", 0.0, rate=10.0, max=4.0, log=log) for log in (False, True))
    target = TargetController("m", 1.0, rate=5.0, min=0.5, max=4.0)
    for price, lowest in ((plain, 0.0), (log, 1e-8), (target, 0.5)):
        for extreme, bound in ((1e300, 4.0), (-1e300, lowest)):
            for _ in range(3):
                price.update(0.0, {"m": extreme})
            assert price.value == bound


def test_in_log_form_a_price_can_rise_again_from_its_floor() -> None:
    price = LagrangeMultiplier("m", 0.0, rate=1.0, log=True)
    price.update(0.0, {"m": -1e300})
    price.update(0.0, {"m": 5.0})
    assert price.value == pytest.approx(1e-8 * math.exp(5))


@pytest.mark.parametrize("metrics", [{}, {"other": 3.0}, {"cost": math.nan}, {"cost": math.inf}])
def test_an_unknown_metric_moves_nothing(metrics: dict[str, float]) -> None:
    price = LagrangeMultiplier("cost", 0.1, initial=0.5)
    price.update(0.5, metrics)
    assert (price.value, price.updates) == (0.5, 0)


CONTROLLERS = [
    lambda: LagrangeMultiplier("cost", 0.2, rate=2.0), lambda: LagrangeMultiplier("cost", 0.2, rate=0.3, log=True),
    lambda: TargetController("cost", 0.2, rate=0.17),
]


@pytest.mark.parametrize("make", CONTROLLERS)
def test_a_restored_controller_goes_on_bit_for_bit(make: Any, tmp_path: Any) -> None:
    one = make()
    run(one, 7, cost_at, "cost")
    save_state(tmp_path, {"controller": one.state_dict(), "spec": one.spec()})
    state = load_state(tmp_path)
    other = weight_from_spec(state["spec"])
    assert isinstance(other, Controller)
    assert other.value == make().value
    other.load_state_dict(state["controller"])
    assert other.updates == 7
    assert run(one, 20, cost_at, "cost") == run(other, 20, cost_at, "cost")


@pytest.mark.parametrize("state", [
    {}, {"value": 1.0}, {"value": math.nan, "updates": 1}, {"value": -1.0, "updates": 1}, {"value": "x", "updates": 1},
])
def test_a_foreign_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="state"):
        LagrangeMultiplier("cost", 0.2).load_state_dict(state)


# --- weights ----------------------------------------------------------------------------------------

WEIGHTS: list[Weight] = [
    2.5, Constant(1.0), Linear(0.0, 1.0, begin=0.5), Cosine(1.0, 0.0), Exponential(1.0, 0.1),
    Piecewise([(0.0, 1.0), (0.5, 2.0)], hold=True), LagrangeMultiplier("cost", Linear(1.0, 0.5), rate=0.3, max=7.0),
    LagrangeMultiplier("cost", 0.1, log=True, initial=2.0), TargetController("kl", 0.1, lowers=False, max=None),
]


@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_a_weight_comes_back_from_its_spec_through_strict_json(weight: Weight) -> None:
    text = json.dumps(weight_spec(weight), allow_nan=False)
    again = weight_from_spec(json.loads(text))
    assert type(again) is type(weight) and weight_spec(again) == weight_spec(weight)
    assert [value_of(again, p) for p in PROGRESS] == [value_of(weight, p) for p in PROGRESS]


@pytest.mark.parametrize("spec", [
    {}, {"kind": "Nonsense"}, {"kind": "Linear", "start": 0.0}, {"kind": "Linear", "start": 0.0, "end": 1.0, "x": 2},
    {"kind": "Linear", "start": 0.0, "end": math.inf}, {"kind": "_Between", "start": 0.0, "end": 1.0},
])
def test_a_spec_that_names_no_weight_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        weight_from_spec(spec)
