"""Forecasting: 84 steps of a chaotic series ahead, each read from the forecast itself.
时间序列预测：对混沌数列向前自由运行 84 步，每一步都只依据自己的预测。
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.baselines.autoregression import best_autoregression, persistence
from chapter_06_rnn_lstm_seq.baselines.echo import ONE_SETTING, SETTINGS, Setting, best_reservoir, echo_forecast
from chapter_06_rnn_lstm_seq.forecasting import free_run
from chapter_06_rnn_lstm_seq.model import Forecaster, ForecasterConfig
from chapter_06_rnn_lstm_seq.series import mackey_glass, sine_mixture
from chapter_06_rnn_lstm_seq.tasks.shared import configure
from utils.spread import over_seeds

HORIZON, TOLERANCE = 84, 0.1  # steps ahead; in the series' own units
TRAIN, VALIDATION = slice(0, 4000), slice(4000, 6000)
TEST = slice(12500, 18000)  # what lies between was looked at while the recipe was sought
CONTEXT = 200  # steps that a forecast starts from
READ, FREE = 100, 60  # steps that training reads, and then goes on from its own predictions
WASHOUT = 20  # first predictions, which know too little, that do not count in the loss
LONGEST = 1000  # steps within which a forecast has to leave the truth
N_SEEDS = 3


class Series:
    """The task: the mean squared error of the next value, read and then continued, in units of the deviation."""

    def __init__(
        self,
        seed: int,
        series: Tensor,
        split: str,
        options: dict,
        batch_size: int,
        device: torch.device,
        reservoirs: list[Setting] = SETTINGS,
    ):
        """series (T,), float64, long enough for the three parts; `seed` is the reservoirs', which are all tried."""
        self.reservoirs = reservoirs
        self.name, self.seed, self.batch_size, self.device = f"seed {seed}", seed, batch_size, device
        self.mean, self.std = series[TRAIN].mean(), series[TRAIN].std()
        scaled = (series - self.mean) / self.std
        self.train = scaled[TRAIN]
        self.windows = self.train.float().unfold(0, READ + FREE + 1, 1)  # (N, READ + FREE + 1)
        self.validation = windows(scaled[VALIDATION], HORIZON, 17)
        self.measured = windows(scaled[TEST], LONGEST, 40) if split == "test" else self.validation
        self.config = configure(ForecasterConfig, options)

    def build(self) -> Forecaster:
        return Forecaster(self.config)

    def batch(self) -> tuple[tuple[Tensor, int], Tensor]:
        """Return what is read (B, READ) and how far to go on, and the values that follow each step (B, READ + FREE)."""
        rows = self.windows[torch.randint(len(self.windows), (self.batch_size,))].to(self.device)
        return (rows[:, :READ], FREE), rows[:, 1:]

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return (predictions - targets)[:, WASHOUT:].square().mean()

    def validate(self, model: nn.Module) -> dict[str, float]:
        context, truth = self.validation
        return {"val_nrmse_84": nrmse(free_run(model, context, HORIZON), truth)}

    def evaluate(self, model: nn.Module) -> dict[str, float | int]:
        context, truth = self.measured
        return self._scores(free_run(model, context, truth.shape[1]))

    def baselines(self) -> dict[str, float | int]:
        """Return the same figures of others, each one's options being those that are best on the validation part."""
        context, truth = self.measured
        n_ahead = truth.shape[1]
        linear = best_autoregression(self.train, self.validation)
        direct = best_autoregression(self.train, self.validation, ahead=HORIZON)
        few = tuple(part[::5] for part in self.validation)  # a reservoir's forecasts run one at a time
        reservoir = best_reservoir(self.train, few, self.seed, self.reservoirs)
        forecasts = {
            "persistence": persistence(context, n_ahead),
            "linear": linear.forecast(context, n_ahead),
            "reservoir": echo_forecast(reservoir, context, n_ahead),
        }
        found = {f"{key}_{name}": value for name, p in forecasts.items() for key, value in self._scores(p).items()}
        error = (direct.direct(context) - truth[:, HORIZON - 1]).square().mean().sqrt().item()
        return found | {
            "nrmse_84_linear_direct": error,
            "linear_order": linear.order,
            "linear_penalty": linear.penalty,
            "linear_direct_order": direct.order,
            "linear_direct_penalty": direct.penalty,
            "reservoir_spectral_radius": reservoir.spectral_radius,
            "reservoir_leak": reservoir.leak,
            "reservoir_input_scaling": reservoir.input_scaling,
            "reservoir_ridge": reservoir.ridge,
        }

    def about(self, model: nn.Module) -> dict:
        context = self.measured[0][:2]
        return {
            "mean": self.mean.item(),
            "std": self.std.item(),
            "probe_context": context,
            "probe": free_run(model, context, HORIZON),
        }

    def _scores(self, predictions: Tensor) -> dict[str, float]:
        truth = self.measured[1]
        return {
            "nrmse_84": nrmse(predictions, truth),
            "valid_steps": valid_steps(self.std * predictions, self.std * truth),
        }

    def state_dict(self) -> dict:
        return {}  # each step draws its own batch

    def load_state_dict(self, saved: dict) -> None:
        pass


def windows(series: Tensor, ahead: int, every: int) -> tuple[Tensor, Tensor]:
    """Cut a series (T,) into contexts (N, CONTEXT), one every so many steps, and the `ahead` values after each."""
    rows = series.unfold(0, CONTEXT + ahead, every)
    return rows[:, :CONTEXT], rows[:, CONTEXT:]


def nrmse(predictions: Tensor, truth: Tensor) -> float:
    """Return the root mean square error at step HORIZON alone, both being in units of the series' deviation."""
    return (predictions - truth)[:, HORIZON - 1].square().mean().sqrt().item()


def valid_steps(predictions: Tensor, truth: Tensor) -> float:
    """Return for how many steps forecasts (N, H) stay within TOLERANCE of the truth, on average; at most H."""
    strayed = ((predictions - truth).abs() > TOLERANCE).long()  # (N, H)
    first = torch.where(strayed.any(dim=1), strayed.argmax(dim=1), strayed.shape[1])
    return first.double().mean().item()


def tasks(dataset: str, root: Path, split: str, options: dict, batch_size: int, device: torch.device) -> list[Series]:
    """Return the same task for each seed. Both series are made here: `root` is not read."""
    if dataset == "full":
        series, reservoirs = mackey_glass(TEST.stop), SETTINGS
    else:
        series, reservoirs = sine_mixture(TEST.stop), ONE_SETTING
    return [Series(seed, series, split, options, batch_size, device, reservoirs) for seed in range(N_SEEDS)]


def summarize(rows: list[dict], split: str) -> dict:
    """Return means and spreads over the seeds of what has them, and the others' figures."""
    seeded = ["nrmse_84", "valid_steps", "nrmse_84_reservoir", "valid_steps_reservoir"]
    final = over_seeds(rows, seeded)
    fixed = ("nrmse_84_", "valid_steps_", "linear_")
    final |= {name: value for name, value in rows[0].items() if name.startswith(fixed) and name not in seeded}
    best = min(final[f"nrmse_84_{name}"] for name in ("persistence", "linear", "linear_direct"))
    final |= {"below_best_baseline": 1 - final["nrmse_84"] / best, "horizon": HORIZON, "n_seeds": len(rows)}
    return final
