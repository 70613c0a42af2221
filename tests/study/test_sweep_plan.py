"""A sweep before it starts and while it runs: plan, estimate of its time, live table."""

import io
import re

import pytest
import torch
from rich.console import Console

from conftest import flags
from rmbpo_fast import train
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.presets import preset
from rmbpo_fast.study.sweep import trial
from rmbpo_fast.study.sweep.plan import make_plan
from rmbpo_fast.study.sweep.table import RunView, SweepTable
from rmbpo_fast.study.sweep.workers import Outcome


def test_the_plan_is_every_eta_with_every_seed(tmp_path):
    shared = ["--env", "hopper", "--seed", "3", "--total-env-steps", "7000", "--compile"]
    plan = make_plan(shared, (0.0, 0.5), 2, tmp_path)
    assert [run.name for run in plan] == [
        "eta-0-seed-3",
        "eta-0-seed-4",
        "eta-0.5-seed-3",
        "eta-0.5-seed-4",
    ]
    for config in (run.config for run in plan):
        assert config.run.compile
        assert config.task.total_env_steps == 7_000
        targets = (config.adversary.kl_target_nats, config.adversary.drop_target)
        assert targets == (None, None)  # an eta of a sweep stays what it is
    # without etas: one setting with some seeds, whatever the algorithm
    (only,) = make_plan(["--env", "hopper", "--algo", "sac"], (), 1, tmp_path)
    assert only.name == "sac-seed-0"
    (adapted,) = make_plan(["--env", "hopper"], (), 1, tmp_path)
    expected = preset("hopper").replace(run_dir=tmp_path / "rmbpo-seed-0", threads=1)
    assert adapted.config == expected


def test_a_folder_with_another_run_is_refused(small_flags, tmp_path):
    run_dir = tmp_path / "eta-1-seed-0"
    assert train.main([*small_flags, *flags(run_dir=run_dir, eta=1, total_env_steps=60)]) == 0
    same = [*small_flags, "--total-env-steps", "80"]
    (run,) = make_plan(same, (1.0,), 1, tmp_path)
    assert (run.started, run.finished, run.step) == (True, False, 60)
    assert run.starting_config().run.resume == run_dir
    (done,) = make_plan([*same, "--total-env-steps", "60"], (1.0,), 1, tmp_path)
    assert done.finished
    for other, words_of_error in (
        (["--sac-lr", "0.1"], "a run with another --sac-lr; --out takes another folder"),
        (["--total-env-steps", "50"], "has come to step 60"),
    ):
        with pytest.raises(ConfigError, match=words_of_error):
            make_plan([*same, *other], (1.0,), 1, tmp_path)


def test_the_estimate_counts_what_a_run_does(small):
    """A pace of 1 s for one part at a time counts how often that part is due."""
    config = small.replace(total_env_steps=1_050, rollout_schedule=(1, 3, 1, 3), rollout_rows=500)

    def seconds(**parts):
        return trial.estimate(trial.Pace(**{"env_s": 0.0, "update_s": 0.0, **parts}), config, 0)

    assert seconds(env_s=1.0) == (1_050, 1_050)
    assert seconds(update_s=1.0) == (1_000, 1_000)  # after 50 random steps, one each
    assert seconds(adversary_s=1.0) == (20, 20)
    assert seconds(rollout_s=1.0) == (1 + 2 + 3 * 18,) * 2  # k grows with the epochs
    assert seconds(model_step_s=1.0) == (20 * 6 * 100, 20 * 2_500)  # per fit
    resumed = trial.estimate(trial.Pace(1.0, 1.0), config, 1_000)
    assert resumed == (100, 100)
    no_adversary = trial.estimate(trial.Pace(0, 0, adversary_s=1.0), config.replace(eta=0.0), 0)
    assert no_adversary == (0, 0)


@pytest.mark.parametrize("more", [{}, {"algo": "sac"}, {"explore": "nominal"}], ids=str)
def test_a_trial_times_every_part(small, more):
    pace = trial.measure(small.replace(**more), torch.device("cpu"))
    assert pace.env_s > 0
    assert pace.update_s > 0
    learned = (pace.model_step_s, pace.adversary_s, pace.rollout_s)
    assert all(part == 0 if more.get("algo") == "sac" else part > 0 for part in learned)


def test_the_live_table_fits_80_columns_and_the_terminals_height(small_flags, tmp_path):
    etas = tuple(float(2**i) for i in range(14))
    views = [RunView(run) for run in make_plan(small_flags, etas, 2, tmp_path)]
    first = views[0].run.run_dir
    assert train.main([*small_flags, *flags(run_dir=first, eta=1, total_env_steps=160)]) == 0
    views[0].run.log.parent.mkdir()
    views[0].run.log.write_text("== start of a\n== start of b\n")
    console = Console(width=80, height=24, record=True, force_terminal=True, file=io.StringIO())
    table = SweepTable(console, "sweep in runs/hopper/sweep", views)
    views[0].look()
    table.update({views[1].run.name: Outcome("failed", "why")}, stopping=False)
    console.export_text(clear=True)  # the lines of a table that isn't live
    console.print(table.render())
    lines = console.export_text().splitlines()
    assert len(lines) <= 22
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert re.search(r"eta-1-seed-1 +failed ", text)  # what matters comes first
    assert re.search(r"eta-1-seed-0 +running, start 2 +160/200 +\d+\.\d +\d\.\d{4} ", text)
    assert "1 failed, 1 running, 26 waiting; 10 more not shown" in text
