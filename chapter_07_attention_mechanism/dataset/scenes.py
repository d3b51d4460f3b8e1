"""Pictures of two or three coloured figures, and the sentence that says what stands where.
两三个彩色图形的图片，以及描述它们相对位置的句子。

    a red disc left of a blue star and above a green cross

The large figure is named first, then the one beside it, then the one over or under it: each picture has one sentence.
"""

import math
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from utils.shapes import FIGURES

COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "green": (0.15, 0.65, 0.2),
    "blue": (0.15, 0.3, 0.85),
    "yellow": (0.9, 0.85, 0.15),
    "purple": (0.55, 0.2, 0.65),
    "white": (0.95, 0.95, 0.95),
}
SHAPES = ["disc", "ring", "triangle", "square", "star", "cross"]
UPRIGHT = {"triangle": -math.pi / 2, "star": -math.pi / 2, "square": math.pi / 4}  # radians from how they are defined
RELATIONS = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}  # to the other one: x, y
SIDE = 64  # pixels
HELD_OUT = 6  # one combination of colour, figure and relation in so many is never trained on


@dataclass(frozen=True)
class Figure:
    """A figure of a scene; lengths are shares of the picture's side, y points down."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    turn: float  # radians from upright


@dataclass(frozen=True)
class Scene:
    """Its figures in the order in which the sentence names them, and what stands between their names."""

    figures: tuple[Figure, ...]
    relations: tuple[str, ...]

    @property
    def sentence(self) -> str:
        names = [f"a {figure.colour} {figure.shape}" for figure in self.figures]
        links = " and ".join(f"{link} {name}" for link, name in zip(self.relations, names[1:], strict=True))
        return f"{names[0]} {links}"

    @property
    def is_held_out(self) -> bool:
        """Tell whether the large figure stands in a relation in which training never shows one of its look."""
        first = self.figures[0]
        return any(held_out(first.colour, first.shape, relation) for relation in self.relations)


def held_out(colour: str, shape: str, relation: str) -> bool:
    """Tell whether this combination is kept for testing."""
    return crc32(f"{colour} {shape} {relation}".encode()) % HELD_OUT == 0


def draw_scene(generator: torch.Generator, unseen: bool) -> Scene:
    """Draw a scene at random: for training, or with a combination that training never shows."""
    while True:
        scene = _any_scene(generator)
        if scene.is_held_out == unseen:
            return scene


def _any_scene(generator: torch.Generator) -> Scene:
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    def choice(options: list[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    def figure(x: float, y: float, radius: float) -> Figure:
        return Figure(choice(list(COLOURS)), choice(SHAPES), x, y, radius, uniform(-0.3, 0.3))

    kind = choice(["beside", "over", "both"])
    relations = [choice(["left of", "right of"])] if kind != "over" else []
    relations += [choice(["above", "below"])] if kind != "beside" else []
    large = figure(uniform(0.44, 0.56), uniform(0.44, 0.56), uniform(0.16, 0.2))
    others = []
    for relation in relations:
        along, across = uniform(0.3, 0.34), uniform(-0.08, 0.08)
        right, down = RELATIONS[relation]
        x = large.x + right * along + (across if not right else 0)
        y = large.y + down * along + (across if not down else 0)
        others.append(figure(x, y, uniform(0.08, 0.1)))
    return Scene((large, *others), tuple(relations))


def paint(scenes: list[Scene], generator: torch.Generator, side: int = SIDE) -> Tensor:
    """Return pictures (B, 3, side, side), uint8, on grounds of different greys with some grain."""
    count = len(scenes)
    axis = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")  # (side, side)
    grey = 0.25 + 0.35 * torch.rand(count, 1, 1, 1, generator=generator)
    pictures = grey + 0.04 * torch.randn(count, 3, side, side, generator=generator)
    for k in range(max(len(scene.figures) for scene in scenes)):
        rows = [i for i, scene in enumerate(scenes) if k < len(scene.figures)]
        figures = [scenes[i].figures[k] for i in rows]
        geometry = torch.tensor([[f.x, f.y, f.radius, f.turn + UPRIGHT.get(f.shape, 0.0)] for f in figures])
        colour = torch.tensor([COLOURS[f.colour] for f in figures])[..., None, None]  # (b, 3, 1, 1)
        colour = colour + 0.05 * torch.randn(len(rows), 3, 1, 1, generator=generator)
        cover = _coverage(geometry[..., None, None], [f.shape for f in figures], x, y, side)  # (b, side, side)
        cover = cover[:, None]  # (b, 1, side, side)
        pictures[rows] = pictures[rows] * (1 - cover) + colour * cover
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def _coverage(geometry: Tensor, shapes: list[str], x: Tensor, y: Tensor, side: int) -> Tensor:
    """Return how much of each pixel a figure covers, (b, side, side); geometry (b, 4, 1, 1) is x, y, radius, turn."""
    centre_x, centre_y, radius, turn = geometry.unbind(dim=1)  # (b, 1, 1) each
    dx, dy = (x - centre_x) / radius, (y - centre_y) / radius  # (b, side, side)
    u, v = turn.cos() * dx + turn.sin() * dy, turn.cos() * dy - turn.sin() * dx
    distance = torch.stack([FIGURES[shape](u[i], v[i]) for i, shape in enumerate(shapes)])
    return (0.5 - distance * radius * side).clamp(0, 1)


def draw_scenes(count: int, generator: torch.Generator, unseen: bool = False) -> tuple[Tensor, list[Scene]]:
    """Return pictures (count, 3, 64, 64), uint8, and their scenes."""
    scenes = [draw_scene(generator, unseen) for _ in range(count)]
    return paint(scenes, generator), scenes


def cells_of(figure: Figure, cells: int) -> set[int]:
    """Return the cells of a `cells` x `cells` grid whose middle lies within the figure's circle, or next to it."""
    reach = figure.radius + 0.5 * math.sqrt(2) / cells
    middle = [(i + 0.5) / cells for i in range(cells)]
    return {
        row * cells + column
        for row, cy in enumerate(middle)
        for column, cx in enumerate(middle)
        if math.hypot(cx - figure.x, cy - figure.y) <= reach
    }
