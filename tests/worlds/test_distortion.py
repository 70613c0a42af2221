"""Distorted physics, against Gymnasium's own environment with the same change on its MjModel."""

import envpool
import gymnasium
import mujoco
import numpy as np
import pytest

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds import Distorted, distortion
from rmbpo_fast.worlds.distortion import Physics, distorted_task
from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.vector_env import make_vector_env

TASKS = {
    "inverted_pendulum": "InvertedPendulum-v4",
    "hopper": "Hopper-v4",
    "halfcheetah": "HalfCheetah-v4",
    "walker2d": "Walker2d-v4",
}


def _gymnasium_model(task: str) -> tuple[gymnasium.Env, mujoco.MjModel]:
    env = gymnasium.make(TASKS[task]).unwrapped
    return env, env.model


def _body(name, mass, scale_inertia=False):
    def change(model):
        body = model.body(name)
        if scale_inertia:
            body.inertia[:] *= mass / body.mass[0]
        body.mass[0] = mass

    return change


def _friction(model):
    model.geom_friction[:] *= 1.3


def _joint(field, names, value):
    def change(model):
        for name in names:
            if field == "stiffness":
                model.joint(name).stiffness[0] = value
            else:
                model.dof_damping[model.joint(name).dofadr[0]] = value

    return change


def _gravity(model):
    model.opt.gravity[2] = -12.0


CASES = [
    ("inverted_pendulum", {"pole_mass": 160.0}, [_body("pole", 160.0, True)]),
    ("inverted_pendulum", {"gravity": 12.0}, [_gravity]),
    (
        "inverted_pendulum",
        {"joint_damping": 4.0},
        [_joint("damping", ["slider"], 4.0)],
    ),
    ("hopper", {"torso_mass": 6.0}, [_body("torso", 6.0)]),
    ("hopper", {"body_mass:foot": 2.0}, [_body("foot", 2.0)]),
    ("hopper", {"friction": 0.3}, [_friction]),
    (
        "hopper",
        {"joint_stiffness:leg_joint": 200.0},
        [_joint("stiffness", ["leg_joint"], 200.0)],
    ),
    ("hopper", {"gravity": 12.0}, [_gravity]),
    ("hopper", {"torso_mass": 5.0, "friction": 0.3}, [_body("torso", 5.0), _friction]),
    ("halfcheetah", {"torso_mass": 12.0}, [_body("torso", 12.0)]),
    ("halfcheetah", {"friction": 0.3}, [_friction]),
    (
        "halfcheetah",
        {"joint_stiffness:bfoot": 30.0},
        [_joint("stiffness", ["bfoot"], 30.0)],
    ),
    ("walker2d", {"torso_mass": 8.0}, [_body("torso", 8.0)]),
    ("walker2d", {"friction": 0.3}, [_friction]),
    (
        "walker2d",
        {"joint_stiffness:foot_joint,foot_left_joint": 100.0},
        [_joint("stiffness", ["foot_joint", "foot_left_joint"], 100.0)],
    ),
    (
        "walker2d",
        {"joint_damping:leg_joint": 2.0},
        [_joint("damping", ["leg_joint"], 2.0)],
    ),
]
IDS = [f"{task}-{','.join(changes)}" for task, changes, _ in CASES]


def _play(task, env, actions):
    """Observations of EnvPool and Gymnasium from EnvPool's first state to its episode's end."""
    pool = make_vector_env(task, 1, seed=3)
    obs = pool.reset(np.zeros(1, dtype=np.int64))[0]
    hidden = env.model.nq + env.model.nv - len(obs)  # the position along the track isn't shown
    state = np.concatenate([np.zeros(hidden), obs])
    env.reset(seed=0)
    env.set_state(state[: env.model.nq], state[env.model.nq :])
    ours, theirs = [obs], [obs]
    for action in actions:
        result = pool.step(action[None])
        ours.append(result.obs[0])
        theirs.append(env.step(action)[0])
        if result.terminated[0]:
            break
    pool.close()
    return np.array(ours), np.array(theirs)


@pytest.mark.parametrize(("task", "changes", "edits"), CASES, ids=IDS)
def test_the_physics_is_gymnasiums_with_the_same_change(task, changes, edits):
    env, model = _gymnasium_model(task)
    low, high = env.action_space.low, env.action_space.high
    actions = 0.2 * np.random.default_rng(0).uniform(low, high, size=(25, len(low)))
    nominal, _ = _play(find_task(task), env, actions)
    for edit in edits:
        edit(model)
    mujoco.mj_setConst(model, env.data)  # what the compiler derives from masses and inertias
    ours, theirs = _play(distorted_task(find_task(task), changes), env, actions)
    # contacts amplify the last digits, a thousandfold within some 30 steps
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    steps = min(len(ours), len(nominal))
    assert steps > 10
    assert np.abs(ours[:steps] - nominal[:steps]).max() > 1e-3, "the distortion did nothing"


@pytest.mark.parametrize(("task", "changes", "edits"), CASES, ids=IDS)
def test_the_wrappers_physics_is_envpools(task, changes, edits):
    """For agents of other libraries, which play in Gymnasium."""
    env = Distorted(gymnasium.make(TASKS[task]), **changes)
    low, high = env.action_space.low, env.action_space.high
    actions = 0.2 * np.random.default_rng(0).uniform(low, high, size=(25, len(low)))
    ours, theirs = _play(distorted_task(find_task(task), changes), env.unwrapped, actions)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_physical_masses_take_their_inertia_with_them():
    nominal, paper, physical = (
        Distorted(gymnasium.make("Hopper-v5"), **more).unwrapped.model
        for more in ({}, {"torso_mass": 7.0}, {"torso_mass": 7.0, "masses": "physical"})
    )
    torso = nominal.body("torso").id
    times = 7.0 / nominal.body_mass[torso]
    assert paper.body_mass[torso] == physical.body_mass[torso] == 7.0
    assert (paper.body_inertia == nominal.body_inertia).all()
    np.testing.assert_allclose(physical.body_inertia[torso], times * nominal.body_inertia[torso])
    # what MuJoCo derives from both
    assert physical.body_subtreemass[0] == pytest.approx(
        nominal.body_subtreemass[0] + 7.0 * (1 - 1 / times)
    )
    assert (physical.dof_M0 != paper.dof_M0).any()


def test_gymnasium_makes_a_distorted_task_by_its_id():
    name = "rmbpo_fast.worlds:Distorted-v0"
    one = gymnasium.make(name, env="Hopper-v5", torso_mass=6.0)
    several = gymnasium.make_vec(name, 2, env="Hopper-v5", torso_mass=6.0, friction=0.3)
    for env in (one, *several.envs):
        assert env.unwrapped.model.body("torso").mass[0] == 6.0
    again = gymnasium.make(one.spec)  # as Minari and others remake a task
    assert again.unwrapped.model.body("torso").mass[0] == 6.0
    several.close()


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ("Pendulum-v1", {"gravity": 1.0}, "Pendulum-v1: expected a task with a MuJoCo model"),
        ("Hopper-v5", {"tors_mass": 1.0}, "Hopper-v5 has no distortion 'tors_mass'; it has torso_"),
        ("Hopper-v5", {"masses": "light"}, "masses: expected paper or physical, found 'light'"),
        ("Hopper-v5", {"torso_mass": -1.0}, "torso_mass must be greater than 0, not -1"),
    ],
)
def test_what_a_wrapper_cant_do_is_one_line(env, settings, message):
    with pytest.raises(ConfigError, match=message):
        Distorted(gymnasium.make(env), **settings)


def test_a_users_mujoco_task_can_be_distorted(monkeypatch):
    """Gymnasium steps it: the change is made in its model."""
    monkeypatch.setattr("envpool.list_all_envs", list)
    task = find_task("Hopper-v5")
    assert Physics(task).nominal("torso_mass") == pytest.approx(3.665, 1e-3)
    vector = make_vector_env(distorted_task(task, {"torso_mass": 6.0}), 2, 0)
    masses = [env.unwrapped.model.body("torso").mass[0] for env in vector._made]
    assert masses == [6.0, 6.0]
    with pytest.raises(ConfigError, match="torso_mass must be greater than 0"):
        distorted_task(task, {"torso_mass": 0.0})


@pytest.mark.parametrize(("task", "changes", "edits"), CASES, ids=IDS)
def test_the_compiled_model_has_the_change_and_no_other(task, changes, edits):
    physics = Physics(find_task(task))
    found = mujoco.MjModel.from_xml_string(physics.xml(changes))
    expected = physics.model
    for edit in edits:
        edit(expected)
    mujoco.mj_setConst(expected, mujoco.MjData(expected))
    np.testing.assert_array_equal(found.opt.gravity, expected.opt.gravity)
    fields = [n for n in dir(expected) if isinstance(getattr(expected, n), np.ndarray)]
    assert len(fields) > 100
    for field in fields:
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-9, atol=1e-12, err_msg=field
        )


def test_geoms_of_one_body_keep_their_own_friction(tmp_path):
    file = tmp_path / "two.xml"
    file.write_text(
        "<mujoco><worldbody><body name='b'><freejoint/>"
        "<geom size='1' friction='0.5 0.1 0.1'/><body name='c'><geom size='1'/></body>"
        "<geom size='1' friction='2 0.2 0.3'/></body><geom type='plane' size='1 1 1'/>"
        "</worldbody></mujoco>"
    )
    physics = Physics(find_task("hopper"))
    physics.__dict__["model_file"] = file
    found = mujoco.MjModel.from_xml_string(physics.xml({"friction": 1.0}))
    np.testing.assert_allclose(found.geom_friction, 2.0 * physics.model.geom_friction)


def test_nominal_values():
    hopper, cheetah = Physics(find_task("hopper")), Physics(find_task("halfcheetah"))
    assert hopper.nominal("torso_mass") == pytest.approx(3.665, abs=1e-3)
    assert Physics(find_task("inverted_pendulum")).nominal("pole_mass") == pytest.approx(5.02, 1e-2)
    assert cheetah.model.body_mass.sum() == pytest.approx(14.0)  # settotalmass
    assert cheetah.nominal("torso_mass") == pytest.approx(6.25, abs=1e-2)
    assert hopper.nominal("friction") == 0.0
    assert hopper.nominal("action_noise") == 1.0
    assert hopper.nominal("gravity") == 9.81
    assert hopper.nominal("joint_damping:leg_joint") == 1.0
    assert cheetah.nominal("joint_stiffness:bfoot") == 120.0
    assert cheetah.nominal("joint_stiffness") is None  # the six joints differ


def test_labels_carry_the_units():
    hopper, pendulum = Physics(find_task("hopper")), Physics(find_task("inverted_pendulum"))
    assert hopper.label("torso_mass") == "torso mass (kg)"
    assert hopper.label("body_mass:foot") == "foot mass (kg)"
    assert hopper.label("joint_stiffness:leg_joint") == "leg_joint stiffness (N m/rad)"
    assert hopper.label("joint_damping") == "joint damping (N m s/rad)"
    assert pendulum.label("joint_damping") == "joint damping (N s/m)"  # the motor drives a slide


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wind": 1.0}, "no distortion 'wind'; it has torso_mass, body_mass:torso|thigh|leg|foot"),
        ({"pole_mass": 1.0}, "no distortion 'pole_mass'"),
        ({"body_mass": 1.0}, "no distortion 'body_mass'"),
        ({"friction:foot": 0.1}, "no distortion 'friction:foot'"),
        ({"joint_stiffness:knee": 1.0}, "no distortion 'joint_stiffness:knee'"),
        ({"torso_mass": -1.0}, "torso_mass must be greater than 0, not -1"),
        ({"torso_mass": 0.0}, "torso_mass must be greater than 0, not 0"),
        ({"friction": -1.1}, "friction must be at least -1"),
        ({"gravity": float("nan")}, "gravity must be at least 0, not nan"),
        ({"action_noise": -1.0}, "action_noise must be at least 0"),
        ({"torso_mass": 4.0, "body_mass:torso": 5.0}, "two values for torso"),
        (
            {"joint_stiffness": 4.0, "joint_stiffness:leg_joint": 5.0},
            "two values for leg_joint",
        ),
        (
            {"joint_stiffness:leg_joint": 1e9},
            "(the simulation runs away)",
        ),
        ({"joint_stiffness:leg_joint": 1e400}, "must be at least 0, not inf"),
    ],
    ids=str,
)
def test_what_the_task_or_its_physics_cant_take_is_refused(changes, words):
    with pytest.raises(ConfigError) as error:
        distorted_task(find_task("hopper"), changes)
    assert words in str(error.value)


def test_a_gymnasium_task_takes_noise_only():
    task = find_task("Pendulum-v1")
    assert distorted_task(task, {"action_noise": 2.0}) is task
    with pytest.raises(ConfigError, match="only action_noise"):
        distorted_task(task, {"gravity": 5.0})


def test_equal_changes_share_a_folder():
    first = distorted_task(find_task("hopper"), {"torso_mass": 5.0}).make_kwargs["base_path"]
    again = distorted_task(find_task("hopper"), {"torso_mass": 5.0}).make_kwargs["base_path"]
    other = distorted_task(find_task("hopper"), {"torso_mass": 5.5}).make_kwargs["base_path"]
    assert first == again != other
    assert distortion._folder is not None
    assert first.startswith(distortion._folder.name)
    distortion._folder.cleanup()
    distortion._folder = None
    distortion._write_models.cache_clear()
    changed = distorted_task(find_task("hopper"), {"torso_mass": 5.0})
    envpool.make_gymnasium(changed.env_id, num_envs=1, **changed.make_kwargs).close()
