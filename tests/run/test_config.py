import dataclasses
import json
from pathlib import Path

import pytest

from rmbpo_fast import __version__
from rmbpo_fast import config as config_module
from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.presets import preset
from rmbpo_fast.run.cli import parse
from rmbpo_fast.run.config_file import from_json, read_config, to_json
from rmbpo_fast.run.validation import validate


@pytest.mark.parametrize(
    ("env", "steps", "warm_up", "epoch", "updates", "horizon", "entropy", "eta"),
    [
        ("inverted_pendulum", 20_000, 500, 250, 10, 1, -0.05, 0.05),
        ("hopper", 125_000, 5_000, 1_000, 20, 15, -1, 0.05),
        ("halfcheetah", 400_000, 5_000, 1_000, 40, 1, -3, 0.25),
        ("walker2d", 300_000, 5_000, 1_000, 20, 1, -3, 0.5),
    ],
)
def test_presets_are_the_papers(env, steps, warm_up, epoch, updates, horizon, entropy, eta):
    c = preset(env)
    assert (c.task.total_env_steps, c.task.random_steps, c.task.epoch_steps) == (
        steps,
        warm_up,
        epoch,
    )
    assert (c.sac.updates_per_step, c.rollout.rollout_schedule[-1]) == (updates, horizon)
    assert (c.sac.target_entropy, c.adversary.eta) == (entropy, eta)


def test_noise_of_the_tasks():
    assert preset("inverted_pendulum").task.noise == ("truncated_normal", 0.2)
    for env in ("hopper", "halfcheetah", "walker2d"):
        assert preset(env).task.noise == ("uniform", 0.005)
    assert Config().task.noise == ("none", 0.0)


def test_what_eta_is_adapted_to():
    targets = {}
    for env in ("inverted_pendulum", "hopper", "halfcheetah", "walker2d", "ant", "Pendulum-v1"):
        adversary = preset(env).adversary
        targets[env] = (adversary.kl_target_nats, adversary.drop_target)
    assert targets.pop("hopper") == (None, 0.06)
    assert preset("hopper").adversary.adversary_from_epoch == 40
    assert targets.pop("ant") == targets.pop("Pendulum-v1") == (0.005, None)
    assert set(targets.values()) == {(None, None)}


def test_versions_share_a_preset():
    assert preset("Hopper-v5") == preset("hopper").replace(env="Hopper-v5")
    assert preset("Pendulum-v1") == Config().replace(env="Pendulum-v1")


@pytest.mark.parametrize("env", ["inverted_pendulum", "hopper", "humanoid", "Pendulum-v1"])
def test_every_preset_is_valid_and_survives_json(env, tmp_path):
    config = preset(env).replace(run_dir=tmp_path, adversary_dims=(1, 2))
    validate(config)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_flag_names_are_unique_and_documented():
    names = [f.name for group in dataclasses.fields(Config) for f in dataclasses.fields(group.type)]
    assert len(names) == len(set(names))
    source = Path(config_module.__file__).read_text()
    for name in names:
        field = source.index(f"    {name}: ")
        assert source[field:].split("\n", 1)[1].lstrip().startswith('"""'), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eta": float("nan")}, "--eta must be finite, not nan"),
        ({"eta": float("inf")}, "--eta must be finite, not inf"),
        ({"eta": -1.0}, "--eta must be at least 0, not -1.0"),
        ({"num_envs": 0}, "--num-envs must be at least 1, not 0"),
        ({"total_env_steps": -5}, "--total-env-steps must be at least 1, not -5"),
        ({"rollout_rows": 0}, "--rollout-rows must be at least 1, not 0"),
        ({"rollout_rows": 7}, "--rollout-rows must be a multiple of the elites, 5, not 7"),
        ({"num_members": 0}, "--num-members must be at least 1, not 0"),
        ({"action_noise": "uniform"}, "--action-noise must be none, uniform:HALF_WIDTH or"),
        ({"action_noise": "uniform:-1"}, "not 'uniform:-1'"),
        ({"action_noise": "normal:0.1"}, "not 'normal:0.1'"),
        ({"action_noise": "none:0.1"}, "not 'none:0.1'"),
        ({"action_noise": "uniform:x"}, "not 'uniform:x'"),
        ({"model_hidden": (200, 0)}, "--model-hidden must be one or more layer widths"),
        ({"model_hidden": ()}, "--model-hidden must be one or more layer widths"),
        ({"gamma": 1.5}, "--gamma must be between 0 and 1, not 1.5"),
        ({"sac_lr": 0.0}, "--sac-lr must be greater than 0"),
        ({"rollout_schedule": (5, 5, 1, 2)}, "--rollout-schedule must be K, or FIRST_EPOCH"),
        ({"rollout_schedule": (0, 5, 3, 2)}, "--rollout-schedule must be K, or FIRST_EPOCH"),
        ({"rollout_schedule": (0, 5, 0, 2)}, "--rollout-schedule must be K, or FIRST_EPOCH"),
        ({"rollout_schedule": (0,)}, "--rollout-schedule must be K, or FIRST_EPOCH"),
        ({"rollout_schedule": ()}, "--rollout-schedule must be K, or FIRST_EPOCH"),
        ({"rollout_schedule": (1, 2)}, "--rollout-schedule must be K, or FIRST_EPOCH"),
        (
            {"eta": 0.0, "kl_target_nats": 0.1},
            "--eta must be greater than 0 where --kl-target-nats adapts it, not 0.0",
        ),
        (
            {"eta": 0.0, "drop_target": 0.1},
            "--eta must be greater than 0 where --drop-target adapts it, not 0.0",
        ),
        (
            {"drop_target": 0.1, "kl_target_nats": 0.1},
            "--kl-target-nats and --drop-target both adapt eta: give one of them",
        ),
        ({"entropy_rows": 0}, "--entropy-rows must be at least 1, not 0"),
        ({"drop_target": 0.0}, "--drop-target must be greater than 0"),
        ({"adversary_from_epoch": -1}, "--adversary-from-epoch must be at least 0, not -1"),
        ({"seed": 2**63}, "--seed must be below 2**63"),
        ({"adversary_dims": ()}, "--adversary-dims must be one or more dimensions"),
        ({"start_spread": (0.6, -0.1, 0.0, 0.0)}, "--start-spread must be at least 0 for each"),
        (
            {"correlated_noise": True, "adversary": "paper"},
            "--adversary must be residual or pathwise with --correlated-noise, not 'paper'",
        ),
        ({"correlated_noise": True, "adversary_dims": (0,)}, "--adversary-dims takes numbers"),
    ],
)
def test_bad_values_name_flag_expected_and_found(values, message):
    with pytest.raises(ConfigError) as error:
        validate(preset("inverted_pendulum").replace(**values))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "eta", "kl", "drop"),
    [
        ("--eta 4", 4.0, None, None),
        ("--kl-target-nats 0.1", 0.05, 0.1, None),
        ("--drop-target 0.1", 0.05, None, 0.1),
        ("--drop-target 0.1 --eta 4", 4.0, None, 0.1),
        ("--drop_target 0.1", 0.05, None, 0.1),  # tyro takes underscores too
        ("--kl_target_nats=0.1", 0.05, 0.1, None),
    ],
)
def test_what_is_given_takes_the_place_of_the_presets_target(words, eta, kl, drop):
    for env in ("hopper", "inverted_pendulum"):
        found = parse(["--env", env, *words.split()]).adversary
        assert (found.eta, found.kl_target_nats, found.drop_target) == (eta, kl, drop)


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="no such setting: etta"):
        Config().replace(etta=1)
    data = to_json(Config())
    data["adversary"]["eta"] = "big"
    with pytest.raises(ConfigError, match=r"eta: expected float, found .big."):
        from_json(data)
    with pytest.raises(ConfigError, match="no such setting: depth"):
        from_json({**to_json(Config()), "planner": {"depth": 3}})


def test_a_run_of_another_version_says_so_in_one_line(tmp_path):
    """Settings that it lacks take their defaults; those that are gone fail by their names."""
    data = to_json(preset("hopper"))
    del data["run"]["keep_policies"]
    assert from_json(data) == preset("hopper")
    data["adversary"]["kl_dual_lr"] = 0.5
    data["run"]["keep_checkpoints"] = 2
    (tmp_path / "config.json").write_text(json.dumps({"version": "0.1.1", "config": data}))
    with pytest.raises(StorageError) as error:
        read_config(tmp_path)
    words = f"a run of version 0.1.1, this is {__version__}: no such setting: kl_dual_lr"
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
