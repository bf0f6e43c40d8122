import numpy as np
import pytest

from nadoo_video.site import ELEMENTS, Operator, Plan, PlanError, Site, Step, advance, render
from nadoo_video.site.clips import film, random_clips
from nadoo_video.site.operator import invent
from nadoo_video.site.plan import GRAB, HOIST, PLACE, RELEASE, SLEW
from nadoo_video.site.state import ABSENT, GROUND, HELD, RESTING, SIZES, TOPPLING


def stand(site: Site, *boxes: tuple[float, float, float, float]) -> Site:
    """The first of the sites with nothing but the given elements: x of the centre, foot, width, height."""
    one = site.take(slice(0, 1))
    one.mode[:] = ABSENT
    one.wind[:] = 0.0
    for number, (x, foot, width, height) in enumerate(boxes):
        one.x[0, number], one.y[0, number] = x, foot + height / 2
        one.width[0, number], one.height[0, number] = width, height
        one.mode[0, number] = RESTING
    return one


@pytest.fixture
def empty() -> Site:
    return stand(Site.sample(1, np.random.default_rng(0)))


def idle(site: Site, frames: int) -> None:
    zero = np.zeros(site.count)
    for _ in range(frames):
        advance(site, zero, zero, np.zeros(site.count, dtype=bool))


def test_the_same_seed_gives_the_same_clip():
    first, second, other = random_clips(3, 12, 5), random_clips(3, 12, 5), random_clips(3, 12, 6)
    assert np.array_equal(first.frames, second.frames) and np.array_equal(first.actions, second.actions)
    assert not np.array_equal(first.frames, other.frames)


def test_a_batch_is_its_sites_side_by_side():
    generator = np.random.default_rng(1)
    site = Site.sample(4, generator)
    plans = invent(site, generator)
    together = film(site.take(slice(None)), Operator(plans), 60, 32)
    alone = film(site.take(slice(2, 3)), Operator(plans[2:3]), 60, 32)
    assert np.array_equal(together.frames[2], alone.frames[0])


def test_nothing_rests_inside_the_ground_or_far_outside():
    generator = np.random.default_rng(2)
    site = Site.sample(64, generator)
    operator = Operator(invent(site, generator))
    for _ in range(160):
        advance(site, *operator.controls(site))
    assert all(np.isfinite(getattr(site, name)).all() for name in ("x", "y", "swing", "cable", "trolley"))
    present = site.mode != ABSENT
    assert (site.y - site.height / 2 >= GROUND - 1e-6)[present & (site.mode != TOPPLING)].all()
    assert ((site.x > 0) & (site.x < 24.5))[present].all()
    # The plans did something.
    assert (operator._step > 5).mean() > 0.9


def test_what_nothing_carries_falls_and_lands(empty):
    site = stand(empty, (12.0, GROUND + 8.0, 2.0, 2.0))
    idle(site, 12)
    assert site.mode[0, 0] == RESTING and site.y[0, 0] == pytest.approx(GROUND + 1.0)


def test_a_stable_stack_stands(empty):
    site = stand(empty, (12.0, GROUND, 3.0, 2.0), (12.4, GROUND + 2.0, 2.0, 2.0))
    before = site.x.copy(), site.y.copy()
    idle(site, 40)
    assert np.array_equal(before[0], site.x) and np.array_equal(before[1], site.y)


@pytest.mark.parametrize("side", [-1, 1])
def test_what_stands_over_the_edge_topples_to_that_side(empty, side):
    site = stand(empty, (12.0, GROUND, 2.0, 2.0), (12.0 + side * 1.4, GROUND + 2.0, 2.0, 3.0))
    idle(site, 20)
    assert site.mode[0, 1] == RESTING
    assert side * (site.x[0, 1] - 12.0) > 1.4 and site.y[0, 1] < GROUND + 2.0
    assert (site.width[0, 1], site.height[0, 1]) == (3.0, 2.0)


def test_a_load_is_taken_carried_and_placed(empty):
    site = stand(empty, (8.0, GROUND, 2.0, 2.0), (16.0, GROUND, 3.0, 2.0))
    steps = [Step(HOIST, 9), Step(SLEW, 8), Step(HOIST, 4.1), Step(GRAB), Step(HOIST, 10), Step(SLEW, 16), Step(PLACE)]
    operator, modes = Operator([steps]), set()
    for _ in range(200):
        advance(site, *operator.controls(site))
        modes.add(int(site.mode[0, 0]))
    assert modes >= {HELD, RESTING}
    assert site.held[0] == -1 and site.mode[0, 0] == RESTING
    assert site.x[0, 0] == pytest.approx(16.0, abs=1.0) and site.y[0, 0] == pytest.approx(GROUND + 3.0, abs=0.05)


def test_what_is_let_go_falls(empty):
    site = stand(empty, (8.0, GROUND, 2.0, 2.0))
    operator = Operator([[Step(HOIST, 9), Step(SLEW, 8), Step(HOIST, 4.1), Step(GRAB), Step(HOIST, 12), Step(RELEASE)]])
    highest = 0.0
    for _ in range(160):
        advance(site, *operator.controls(site))
        highest = max(highest, site.y[0, 0])
    assert highest > 9.0 and site.mode[0, 0] == RESTING and site.y[0, 0] == pytest.approx(GROUND + 1.0)


def test_wind_swings_the_load(empty):
    def lean(wind: float) -> float:
        site = stand(empty, (8.0, GROUND, 2.0, 2.0))
        site.wind[:] = wind
        operator, angles = Operator([[Step(SLEW, 8), Step(HOIST, 4.1), Step(GRAB), Step(HOIST, 8)]]), []
        for _ in range(120):
            advance(site, *operator.controls(site))
            if site.held[0] == 0:
                angles.append(site.swing[0])
        return float(np.mean(angles[-20:]))

    assert lean(-1.0) < -0.02 < 0.02 < lean(1.0)


def test_pictures_show_every_element():
    site = Site.sample(8, np.random.default_rng(3))
    pictures = render(site, 128)
    assert pictures.shape == (8, 128, 128, 3) and pictures.dtype == np.uint8
    hidden = site.take(slice(None))
    for element in range(ELEMENTS):
        hidden.mode[:, element] = ABSENT
        changed = (render(hidden, 128) != pictures).any(axis=(1, 2, 3))
        assert np.array_equal(changed, (site.mode[:, : element + 1] != ABSENT).any(axis=1))
    assert len(SIZES) == 4


def test_plans_round_trip_through_json():
    plan = Plan((Step(SLEW, 12.0), Step(GRAB)), site=4, wind=-0.5)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ([], "expected a plan"),
        ({"steps": []}, "1 to 100 steps, got 0"),
        ({"steps": "grab"}, "1 to 100 steps"),
        ({"steps": [{"do": "fly"}]}, "step 1: expected.*fly"),
        ({"steps": [{"do": "grab"}, {"do": "slew"}]}, 'step 2, slew: expected "to" from 4.5 to 22, got None'),
        ({"steps": [{"do": "slew", "to": 99}]}, "got 99"),
        ({"steps": [{"do": "slew", "to": float("nan")}]}, "got nan"),
        ({"steps": [{"do": "slew", "to": True}]}, "got True"),
        ({"steps": [{"do": "grab", "to": 3}]}, "unexpected to"),
        ({"steps": [{"do": "grab"}], "site": -1}, "site"),
        ({"steps": [{"do": "grab"}], "wind": 2}, "wind"),
    ],
)
def test_a_plan_that_can_not_be_followed_says_why(plan, words):
    with pytest.raises(PlanError, match=words):
        Plan.from_json(plan)
