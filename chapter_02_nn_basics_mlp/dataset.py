"""Three small regression problems, made here and shipped as CSV files in data/.
三个小型回归问题：在这里生成，并以 CSV 文件的形式放在 data/ 里。

Each `<name>_target` is the truth; `curve`, `surface` and `periodic` draw points of it, from PyTorch's generator.
"""

from pathlib import Path

import torch

from utils.errors import UserError
from utils.file_io_util import atomic_write

DATA = Path(__file__).resolve().parent / "data"
CURVE_SIDE, SURFACE_SIDE = 3.0, 2.0  # the inputs fill [-side, side] in each coordinate
PERIODIC_SIDE, PERIODIC_REACH = 6.0, 12.0  # the training interval [-6, 6], and how far beyond it is tested

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


def curve(count: int, noise: float = 0.15) -> Points:
    """Draw inputs (count, 1) evenly from [-3, 3], and targets (count, 1) with Gaussian noise of that deviation."""
    x = _uniform(count, 1, CURVE_SIDE)
    return x, _blur(curve_target(x), noise)


def surface(count: int, noise: float = 0.05) -> Points:
    """Draw inputs (count, 2) evenly from [-2, 2]^2, and targets (count, 1)."""
    x = _uniform(count, 2, SURFACE_SIDE)
    return x, _blur(surface_target(x), noise)


def periodic(count: int, noise: float = 0.1, outside: bool = False) -> Points:
    """Draw inputs (count, 1) from the training interval [-6, 6], or from beyond it up to 12 on either side."""
    x = _uniform(count, 1, PERIODIC_SIDE)
    if outside:
        x = x + torch.copysign(torch.full_like(x, PERIODIC_REACH - PERIODIC_SIDE), x)
    return x, _blur(periodic_target(x), noise)


def _uniform(count: int, dimensions: int, side: float) -> torch.Tensor:
    return side * (2 * torch.rand(count, dimensions) - 1)


def _blur(y: torch.Tensor, noise: float) -> torch.Tensor:
    return y + noise * torch.randn_like(y)


def load(name: str) -> Points:
    """Return the inputs (N, D) and targets (N, 1) of a shipped set: <curve|surface|periodic>_<train|test>, or
    periodic_outside.
    """
    values = read_csv(DATA / f"{name}.csv")
    return values[:, :-1], values[:, -1:]


def write_data(folder: Path) -> None:
    """Draw the sets that ship, and write them to `folder`; those in data/ were drawn after `set_seed(0)`."""
    sets = {
        "curve_train": curve(400),
        "curve_test": curve(400),
        "surface_train": surface(2000),
        "surface_test": surface(1000),
        "periodic_train": periodic(400),
        "periodic_test": periodic(400),
        "periodic_outside": periodic(400, outside=True),
    }
    for name, (x, y) in sets.items():
        header = ["x", "y"] if x.shape[1] == 1 else ["x1", "x2", "y"]
        rows = [[f"{value:.5f}" for value in row] for row in torch.cat([x, y], dim=1).tolist()]
        with atomic_write(folder / f"{name}.csv") as temporary:
            lines = [",".join(row) + "\n" for row in [header, *rows]]
            temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


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
