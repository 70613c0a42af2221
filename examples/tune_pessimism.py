"""How pessimistic should the imagined world be? Optuna looks for it, and stops what falls behind.

pip install optuna
python examples/tune_pessimism.py

Nominal returns choose, as they must: a distorted return is what the policy is tested by.
"""

from typing import Any

import optuna

from rmbpo_fast import preset, train


def main(trials: int = 10, **settings: Any) -> optuna.Study:
    def objective(trial: optuna.Trial) -> float:
        target = trial.suggest_float("drop_target", 0.02, 0.2, log=True)
        config = preset(
            "inverted_pendulum", drop_target=target, seed=trial.number, total_env_steps=5_000
        )
        best = -float("inf")

        def prune(row: dict[str, Any]) -> bool:
            nonlocal best
            best = max(best, row["eval/return_mean"])
            trial.report(row["eval/return_mean"], row["env_step"])
            return trial.should_prune()

        train(config.replace(**settings), callback=prune)
        if trial.should_prune():
            raise optuna.TrialPruned
        return best

    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
    study.optimize(objective, n_trials=trials)
    print(f"best: {study.best_params}, return {study.best_value:.0f}")
    return study


if __name__ == "__main__":
    main()
