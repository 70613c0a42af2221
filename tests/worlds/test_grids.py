"""What a user types becomes the worlds that are visited."""

import pytest

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds.grids import make_experiment, paper_experiments, parse_axis


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("torso_mass=4.5", "torso_mass", (4.5,)),
        ("torso_mass=2.5:6.0:0.5", "torso_mass", (2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)),
        ("friction=-0.2:0.2:0.1", "friction", (-0.2, -0.1, 0.0, 0.1, 0.2)),
        ("gravity=1:2.2:0.5", "gravity", (1.0, 1.5, 2.0)),
        ("pole_mass=100,5,50", "pole_mass", (5.0, 50.0, 100.0)),
        ("joint_stiffness:a,b=0:2:1", "joint_stiffness:a,b", (0.0, 1.0, 2.0)),
    ],
)
def test_values(text, name, values):
    axis = parse_axis(text)
    assert (axis.name, axis.values) == (name, values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("torso_mass", "expected NAME=VALUE"),
        ("torso_mass=", "expected NAME=VALUE"),
        ("=4", "expected NAME=VALUE"),
        ("torso_mass=heavy", "expected NAME=VALUE"),
        ("torso_mass=1:2", "expected NAME=VALUE"),
        ("torso_mass=1:2:0", "a STEP above 0"),
        ("torso_mass=2:1:0.5", "FIRST <= LAST"),
        ("torso_mass=0:nan:1", "FIRST <= LAST"),
        ("torso_mass=0:1:1e-3", "1000 steps; at most 1000 values"),
        ("torso_mass=0:1e300:1e-300", "at most 1000 values"),
        ("torso_mass=1,2,1", "given twice"),
    ],
)
def test_what_cant_be_read_is_refused(text, words):
    with pytest.raises(ConfigError) as error:
        parse_axis(text)
    assert words in str(error.value)


def test_worlds_of_two_axes_and_a_fixed_change():
    experiment = make_experiment(("torso_mass=4,5", "action_noise=20"), "friction=0,0.1")
    assert list(experiment.worlds()) == [
        {"torso_mass": 4.0, "friction": 0.0, "action_noise": 20.0},
        {"torso_mass": 4.0, "friction": 0.1, "action_noise": 20.0},
        {"torso_mass": 5.0, "friction": 0.0, "action_noise": 20.0},
        {"torso_mass": 5.0, "friction": 0.1, "action_noise": 20.0},
    ]
    assert experiment.slug() == "torso_mass-vs-friction-action_noise=20"
    assert list(make_experiment((), None).worlds()) == [{}]
    assert make_experiment((), None).slug() == "nominal"
    both = make_experiment(("joint_stiffness:a,b=3",), None)
    assert both.slug() == "joint_stiffness.a+b=3"


@pytest.mark.parametrize(
    ("distort", "vs", "words"),
    [
        (("torso_mass=1,2", "friction=0,1"), None, "give the second to --vs"),
        (("torso_mass=1",), "friction=0,1", "--vs needs a --distort with a range"),
        (("torso_mass=1,2",), "friction=1", "a single value goes to --distort"),
        (("torso_mass=1,2",), "torso_mass=3,4", "given twice: torso_mass"),
        (("torso_mass=1:100:1",), "friction=0:1:0.01", "10100 worlds; at most 1000"),
    ],
)
def test_what_makes_no_picture_is_refused(distort, vs, words):
    with pytest.raises(ConfigError, match=words):
        make_experiment(distort, vs)


def test_the_papers_grids_are_those_of_section_6():
    hopper = {e.axes[0].name: e.axes[0].values for e in paper_experiments("Hopper-v4")}
    assert hopper["torso_mass"] == (2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
    assert hopper["friction"][0] == -0.5
    assert hopper["friction"][-1] == 0.5
    assert hopper["joint_stiffness:leg_joint"] == tuple(50.0 * i for i in range(16))
    walker = {e.axes[0].name: e.axes[0].values for e in paper_experiments("walker2d")}
    assert walker["torso_mass"] == tuple(float(m) for m in range(1, 12))
    assert walker["joint_stiffness:foot_joint,foot_left_joint"][-1] == 375.0
    cheetah = {e.axes[0].name: e.axes[0].values for e in paper_experiments("halfcheetah")}
    assert cheetah["torso_mass"] == tuple(float(m) for m in range(1, 19))
    assert (cheetah["friction"][0], cheetah["friction"][-1]) == (-0.9, 2.3)
    (pole,) = paper_experiments("inverted_pendulum")
    assert pole.axes[0].values == (5, 50, 100, 125, 150, 160, 170, 180, 200, 220)
    with pytest.raises(ConfigError, match="no grid for ant"):
        paper_experiments("ant")
