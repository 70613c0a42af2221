"""How runs are grouped by their settings."""

import pytest

from rmbpo_fast.config import Config
from rmbpo_fast.presets import preset
from rmbpo_fast.study.groups import group_of, told_apart

NO_PRESET = Config().replace(env="Reacher-v4")
PENDULUM = preset("inverted_pendulum")


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        ({"algo": "mbpo"}, "MBPO"),
        ({"eta": 0.0, "kl_target_nats": None}, "MBPO"),
        ({"eta": 4.0, "kl_target_nats": None}, "RMBPO, eta 4"),
        ({"kl_target_nats": 0.01}, "RMBPO, KL target 0.01 nats"),
        ({"kl_target_nats": None, "drop_target": 0.06}, "RMBPO, drop target 0.06"),
        ({"adversary_from_epoch": 40}, "RMBPO, KL target 0.005 nats from epoch 40"),
        (
            {"eta": 4.0, "kl_target_nats": None, "adversary": "paper"},
            "RMBPO, eta 4, paper adversary",
        ),
        ({"algo": "mbpo", "start_spread": (0.5, 0.0)}, "MBPO, starts +- 0.5 0"),
        ({"algo": "mbpo", "correlated_noise": True}, "MBPO, correlated noise"),
        ({"algo": "mbpo", "updates_per_step": 2}, "MBPO, 2 updates a step"),
        ({"algo": "mbpo", "updates_per_step": 1}, "MBPO, 1 update a step"),
        ({"algo": "mbpo", "rollout_schedule": (3,)}, "MBPO, rollouts of 3"),
        (
            {"algo": "mbpo", "rollout_schedule": (0, 5, 1, 9), "target_entropy": -0.3},
            "MBPO, rollouts of 1 to 9 over epochs 0 to 5, target entropy -0.3",
        ),
        ({"algo": "sac", "entropy_rows": 1_000}, "SAC, entropy over the newest 1,000"),
        ({"adversary_dims": (0, 11)}, "RMBPO, KL target 0.005 nats, dims 0 11"),
        (
            {"adversary": "pathwise"},
            "RMBPO, KL target 0.005 nats, pathwise adversary",
        ),
        (
            {"gamma": 0.95, "sac_hidden": (64, 64), "rollout_rows": 5, "model_hidden": (9,)},
            "RMBPO, KL target 0.005 nats, sac-hidden 64 64, gamma 0.95, model-hidden 9, "
            "rollout-rows 5",
        ),
        ({"algo": "mbpo", "action_noise": "uniform:0.6"}, "MBPO, action-noise uniform:0.6"),
        ({"algo": "mbpo", "eta": 9.0, "total_env_steps": 9, "threads": 1}, "MBPO"),
        ({"algo": "sac", "sac_lr": 1e-4, "model_hidden": (9,)}, "SAC, sac-lr 0.0001"),
    ],
)
def test_groups(settings, group):
    assert group_of(NO_PRESET.replace(**settings)) == group


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        ({"algo": "sac"}, "SAC"),
        ({"algo": "sac", "updates_per_step": 1, "rollout_schedule": (9,)}, "SAC, 1 update a step"),
        ({"algo": "sac", "target_entropy": -0.3}, "SAC, target entropy -0.3"),
        ({"algo": "mbpo", "randomize": ("pole_mass=2:20",)}, "MBPO, randomised pole_mass=2:20"),
        ({"explore": "nominal"}, "RMBPO, eta 0.05, nominal exploration"),
    ],
)
def test_groups_of_the_baselines(settings, group):
    assert group_of(PENDULUM.replace(**settings)) == group


# another value of each setting that isn't a number
OTHER = {
    "action_noise": "uniform:0.1",
    "termination": "never",
    "model_hidden": (8,),
    "algo": "mbpo",
    "explore": "nominal",
    "adversary": "paper",
    "adversary_dims": (0,),
    "rollout_schedule": (9,),
    "start_spread": (0.5, 0.0),
    "sac_hidden": (8,),
    "target_entropy": -0.3,
    "entropy_rows": 1_000,
}
# How long, on what machine, where eta starts when it is adapted; the last two don't go with this
# preset's algorithm and KL target, and are tested above.
UNNAMED = {
    *("env", "total_env_steps", "epoch_steps", "eta"),
    *("randomize", "drop_target"),
}
LEARNING = {
    setting
    for part in ("task", "model", "adversary", "rollout", "sac")
    for setting in vars(getattr(NO_PRESET, part))
}


def with_another(setting: str) -> Config:
    value = NO_PRESET.flat()[setting]
    if setting in OTHER:
        other = OTHER[setting]
    else:
        other = not value if isinstance(value, bool) else value + 1
    return NO_PRESET.replace(**{setting: other})


@pytest.mark.parametrize("setting", sorted(LEARNING - UNNAMED))
def test_each_setting_that_a_policy_learns_by_makes_another_group(setting):
    usual, changed = group_of(NO_PRESET), group_of(with_another(setting))
    assert changed != usual
    names, _ = told_apart([usual, changed])
    assert names[usual] != names[changed]
    # what both have is taken out whole: a setting with the comma of a name would be torn
    both = [f"DR, {setting} 1", f"{changed}, {setting} 1"]
    names, common = told_apart(both)
    assert common == f"all runs: {setting} 1"
    assert names == {both[0]: "DR", both[1]: changed}


@pytest.mark.parametrize(
    ("groups", "names", "common"),
    [
        (["MBPO, sac-lr 0.1"], ["MBPO, sac-lr 0.1"], ""),  # one has nothing to be told from
        ([], [], ""),
        (["MBPO", "RMBPO, eta 4"], ["MBPO", "RMBPO, eta 4"], ""),
        (
            ["MBPO, noise, sac-lr 0.1", "RMBPO, eta 4, sac-lr 0.1, noise"],
            ["MBPO", "RMBPO, eta 4"],
            "all runs: noise, sac-lr 0.1",
        ),
        (
            ["RMBPO, eta 4, full", "RMBPO, eta 2, full", "RMBPO, full"],
            ["RMBPO, eta 4", "RMBPO, eta 2", "RMBPO"],
            "all runs: full",
        ),
        (["SAC, gamma 0.9", "SAC, gamma 0.95"], ["SAC, gamma 0.9", "SAC, gamma 0.95"], ""),
    ],
)
def test_what_all_groups_have_is_said_once(groups, names, common):
    assert told_apart(groups) == (dict(zip(groups, names, strict=True)), common)
