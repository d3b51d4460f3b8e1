"""Three small regression problems, made here and shipped as CSV files in data/.
三个小型回归问题：在这里生成，并以 CSV 文件的形式放在 data/ 里。

Each `<name>_target` is the truth; `curve`, `surface` and `periodic` draw points of it, from PyTorch's generator.
"""

from pathlib import Path

import torch

from utils.errors import UserError

DATA = Path(__file__).resolve().parent / "data"
CURVE_SIDE, SURFACE_SIDE = 3.0, 2.0  # the inputs fill [-side, side] in each coordinate
PERIODIC_SIDE, PERIODIC_REACH = 6.0, 12.0  # the training interval [-6, 6], and how far beyond it is tested
SETS = {  # how many points, input dimensions, and how far the inputs lie from 0
    "curve_train": (400, 1, CURVE_SIDE),
    "curve_test": (400, 1, CURVE_SIDE),
    "surface_train": (2000, 2, SURFACE_SIDE),
    "surface_test": (1000, 2, SURFACE_SIDE),
    "periodic_train": (400, 1, PERIODIC_SIDE),
    "periodic_test": (400, 1, PERIODIC_SIDE),
    "periodic_outside": (400, 1, PERIODIC_REACH),
}

Points = tuple[torch.Tensor, torch.Tensor]


def curve_target(x: torch.Tensor) -> torch.Tensor:
    """x (N, 1) -> (N, 1): a slow wave, with a fast ripple in the middle that networks learn last."""
    return torch.sin(2 * x) + 0.5 * torch.cos(8 * x) * torch.exp(-(x**2))


def surface_target(x: torch.Tensor) -> torch.Tensor:
    """x (N, 2) -> (N, 1): a ring-shaped wave on a tilted plane."""
    radius = x.norm(dim=1, keepdim=True)  # (N, 1)
    return torch.cos(4 * radius) * torch.exp(-(radius**2) / 2) + 0.2 * x[:, :1]


def periodic_target(x: torch.Tensor) -> torch.Tensor:
    """x (N, 1) -> (N, 1): a leaning wave that repeats every pi."""
    return torch.sin(2 * x) + 0.25 * torch.sin(4 * x)


def curve(n_points: int, noise: float = 0.15) -> Points:
    """Draw inputs (n_points, 1) evenly from [-3, 3], and targets (n_points, 1) with noise of that deviation."""
    x = _uniform(n_points, 1, CURVE_SIDE)
    return x, _add_noise(curve_target(x), noise)


def surface(n_points: int, noise: float = 0.05) -> Points:
    """Draw inputs (n_points, 2) evenly from [-2, 2]^2, and targets (n_points, 1)."""
    x = _uniform(n_points, 2, SURFACE_SIDE)
    return x, _add_noise(surface_target(x), noise)


def periodic(n_points: int, noise: float = 0.1, outside: bool = False) -> Points:
    """Draw inputs (n_points, 1) from the training interval [-6, 6], or from beyond it up to 12 on either side."""
    x = _uniform(n_points, 1, PERIODIC_SIDE)
    if outside:
        x = x + torch.copysign(torch.full_like(x, PERIODIC_REACH - PERIODIC_SIDE), x)
    return x, _add_noise(periodic_target(x), noise)


def _uniform(n_points: int, dimensions: int, side: float) -> torch.Tensor:
    return side * (2 * torch.rand(n_points, dimensions) - 1)


def _add_noise(y: torch.Tensor, noise: float) -> torch.Tensor:
    return y + noise * torch.randn_like(y)


def load(name: str) -> Points:
    """Return the inputs (N, D) and targets (N, 1) of a shipped set, one of SETS.

    Raises:
        UserError: the file is missing or damaged, or is not the one that ships.
    """
    path, (n_points, d_in, reach) = DATA / f"{name}.csv", SETS[name]
    values = read_csv(path, columns=d_in + 1)
    if len(values) != n_points or values[:, :-1].abs().max() > reach:
        raise UserError(
            f"{path} should hold {n_points} points, the inputs at most {reach:g} from 0: "
            "draw_data.py draws the right ones"
        )
    return values[:, :-1], values[:, -1:]


def read_csv(path: Path, columns: int | None = None) -> torch.Tensor:
    """Return the numbers of a CSV file (rows, columns), float32; a first line without any number is a header.

    Raises:
        UserError: the file cannot be read, holds no numbers, or a line has something else than `columns` finite
            numbers (by default: as many as the first such line).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    rows = []
    for i, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split(",")]
        numbers = [_number(cell) for cell in cells]
        if not line.strip() or (i == 1 and all(number is None for number in numbers)):
            continue
        if None in numbers:
            raise UserError(f"{path}, line {i}: {cells[numbers.index(None)][:40]!r} is not a finite number")
        columns = columns or len(numbers)
        if len(numbers) != columns:
            raise UserError(f"{path}, line {i}: {len(numbers)} numbers where {columns} should be")
        rows.append(numbers)
    if not rows:
        raise UserError(f"{path} holds no numbers, with commas between them")
    return torch.tensor(rows)  # (rows, columns)


def _number(text: str) -> float | None:
    """The number that `text` spells, or None where it spells none that float32 can hold."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= torch.finfo(torch.float32).max else None  # not so for inf and nan
