"""What each mode of `mlp.py` reports of its trained networks, one row a seed, and what it compares them with.
`mlp.py` 的每种模式报告什么：每个种子一行，以及拿来对照的基线。
"""

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.measures import accuracy, network_outputs, rmse, two_view_probabilities
from chapter_02_nn_basics_mlp.problems import Points, Problem


def fit_scores(model: nn.Module, problem: Problem, test: Points) -> dict[str, float]:
    """Return a fit's distance from the noisy test points, and from the truth at the same places."""
    output = network_outputs(model, test[0])
    return {"test_rmse": rmse(output, test[1]), "truth_rmse": rmse(output, problem.target(test[0]))}


def fit_baselines(problem: Problem, train: Points, test: Points) -> dict[str, float]:
    """Return the truth's own score, which is the noise, and the score of always answering the training mean."""
    always_mean = train[1].mean().expand_as(test[1])
    return {"noise_rmse": rmse(problem.target(test[0]), test[1]), "mean_rmse": rmse(always_mean, test[1])}


def extrapolation_scores(models: dict[str, nn.Module], inside: Points, outside: Points) -> dict[str, float]:
    """Return each activation's error within and beyond the training interval, and how many times Snake's that is."""
    row = {}
    for name, model in models.items():
        row[f"{name}_rmse_inside"] = rmse(network_outputs(model, inside[0]), inside[1])
        row[f"{name}_rmse_outside"] = rmse(network_outputs(model, outside[0]), outside[1])
    gains = {f"gain_over_{name}": row[f"{name}_rmse_outside"] / row["snake_rmse_outside"] for name in ("relu", "tanh")}
    return row | gains


def extrapolation_baselines(problem: Problem, train: Points, outside: Points) -> dict[str, float]:
    """Return the noise beyond the training interval, and there the score of always answering the training mean."""
    baselines = fit_baselines(problem, train, outside)
    return {"noise_rmse": baselines["noise_rmse"], "mean_rmse_outside": baselines["mean_rmse"]}


def picture_scores(model: nn.Module, softmax: nn.Module, train: Points, test: Points, split: str) -> dict[str, float]:
    """Return the accuracies of an MLP and of softmax regression on the pictures of `split`."""
    return {
        f"{split}_accuracy": accuracy(two_view_probabilities(model, test[0]), test[1]),
        f"{split}_accuracy_single_view": accuracy(network_outputs(model, test[0]), test[1]),
        "train_accuracy": accuracy(network_outputs(model, train[0]), train[1]),
        f"softmax_{split}_accuracy": accuracy(network_outputs(softmax, test[0]), test[1]),
    }


def engine_scores(engine_output: Tensor, torch_output: Tensor, target: Tensor, history: list[dict]) -> dict[str, float]:
    """Return the errors of two trainings that should be one, and how far they ever were apart."""
    return {
        "engine_test_rmse": rmse(engine_output, target),
        "torch_test_rmse": rmse(torch_output, target),
        "largest_prediction_difference": torch.dist(engine_output, torch_output, p=torch.inf).item(),
        "largest_loss_difference": max(abs(row["train_loss"] - row["torch_train_loss"]) for row in history),
    }
