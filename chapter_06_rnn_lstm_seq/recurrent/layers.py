"""Networks of recurrent layers: stacked, in both directions, over sequences of different lengths.
循环层组成的网络：可堆叠、可双向，并能处理长度不一的序列。

What torch.nn's RNN, LSTM and GRU do with batch_first=True, under the same names: `load_state_dict` works between theirs
and ours. Lengths are given as a tensor; nothing is packed.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.recurrent.cells import layer_norm_lstm_cell, unroll
from chapter_06_rnn_lstm_seq.recurrent.fused import fused_gru, fused_lstm, fused_rnn
from chapter_06_rnn_lstm_seq.scan import scan

State = Tensor | tuple[Tensor, ...]


class Recurrent(nn.Module):
    """What all of them share; a subclass says which weights a layer has, and what the layer computes from them.

    Parameters of layer k end in `_l{k}`, those of its backward direction in `_l{k}_reverse`. They start uniform within
    1 / sqrt(H) of 0, as torch.nn's do.
    """

    n_states = 1  # tensors that a layer hands from step to step: h, or h and c

    def __init__(
        self, input_size: int, hidden_size: int, n_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
    ):
        """`dropout` is the share of each layer's outputs, save the last layer's, that is left out in training."""
        super().__init__()
        self.input_size, self.hidden_size, self.n_layers, self.dropout = input_size, hidden_size, n_layers, dropout
        self.directions = 2 if bidirectional else 1
        self.suffixes = [f"_l{k}{end}" for k in range(n_layers) for end in ("", "_reverse")[: self.directions]]
        for i, suffix in enumerate(self.suffixes):
            size = input_size if i < self.directions else hidden_size * self.directions
            for name, shape in self.weight_shapes(size, hidden_size).items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    @staticmethod
    def weight_shapes(input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of a layer's weights, in the order in which `layer` takes them."""
        raise NotImplementedError

    @staticmethod
    def layer(x: Tensor, *state_and_weights: Tensor) -> tuple[Tensor, ...]:
        """x (T, B, D), each state (B, H), weights -> each state after every step (T, B, H)."""
        raise NotImplementedError

    @torch.no_grad()
    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            parameter.uniform_(-bound, bound)

    def weights(self, suffix: str) -> list[Tensor]:
        """Return one layer and direction's weights, for instance those of "_l0_reverse"."""
        return [getattr(self, name + suffix) for name in self.weight_shapes(1, 1)]

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over whole sequences.

        Args:
            x: (B, T, D).
            state: where to start from, 0 if not given: h, or (h, c), each (layers * directions, B, H).
            lengths: (B,), how many steps of each sequence count, all T if not given. The outputs after them are 0, the
                state is the one at a sequence's own end, and the backward direction starts there.

        Returns:
            output (B, T, directions * H) of the last layer, and the state after the last step, as `state` above.

        Raises:
            ValueError: a shape or a length that does not fit.
        """
        self._check(x, lengths)
        batch, n_steps, _ = x.shape
        dtype = autocast_dtype(x)
        x = x.transpose(0, 1).to(dtype)  # (T, B, D): one step's numbers lie side by side
        padding = None
        if lengths is not None:
            lengths = lengths.to(x.device)
            padding = (torch.arange(n_steps, device=x.device)[:, None] >= lengths)[:, :, None]  # (T, B, 1)
            x = x.masked_fill(padding, 0)  # whatever stood there, NaN included, reaches nothing
        x, starts = x.contiguous(), self._starts(state, batch, x)

        ends = []
        with torch.autocast(x.device.type, enabled=False):  # what is to be bfloat16 has been cast
            for k in range(self.n_layers):
                outputs = []
                for way in range(self.directions):
                    i = k * self.directions + way
                    weights = [w.to(dtype) for w in self.weights(self.suffixes[i])]
                    steps = self.layer(reverse(x, lengths) if way else x, *(s[i] for s in starts), *weights)
                    ends.append([at_end(s, lengths) for s in steps])
                    outputs.append(reverse(steps[0], lengths) if way else steps[0])
                x = torch.cat(outputs, dim=-1) if self.directions == 2 else outputs[0]  # (T, B, directions H)
                if k < self.n_layers - 1:
                    x = F.dropout(x, self.dropout, self.training)
        if padding is not None:
            x = x.masked_fill(padding, 0)
        end = tuple(torch.stack(s) for s in zip(*ends, strict=True))  # each (layers * directions, B, H)
        return x.transpose(0, 1), end if self.n_states > 1 else end[0]

    def _starts(self, state: State | None, batch: int, x: Tensor) -> list[Tensor]:
        shape = (self.n_layers * self.directions, batch, self.hidden_size)
        if state is None:
            given = [x.new_zeros(shape)] * self.n_states
        else:
            given = [state] if isinstance(state, Tensor) else list(state)
            if [s.shape for s in given] != [torch.Size(shape)] * self.n_states:
                found = " and ".join(str(tuple(s.shape)) for s in given)
                raise ValueError(f"the state should be {self.n_states} of {shape}, but is {found}")
        return [given[0].to(x.dtype), *(s.to(exact_dtype(x)) for s in given[1:])]

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != self.input_size:
            raise ValueError(f"the input should be (B, T, {self.input_size}), T > 0, but is {tuple(x.shape)}")
        if lengths is not None and lengths.shape != x.shape[:1]:
            raise ValueError(f"there should be {len(x)} lengths, but their shape is {tuple(lengths.shape)}")
        if lengths is not None and not (1 <= int(lengths.min()) and int(lengths.max()) <= x.shape[1]):
            raise ValueError(f"lengths should be from 1 to {x.shape[1]}, but are {lengths.tolist()}")

    def extra_repr(self) -> str:
        both = ", bidirectional" if self.directions == 2 else ""
        return f"{self.input_size}, {self.hidden_size}, n_layers={self.n_layers}{both}, dropout={self.dropout}"


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the type that matrix products have here: x's own, or under autocast bfloat16 (or float16)."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def exact_dtype(x: Tensor) -> torch.dtype:
    """Return the type for what adds up over many steps: x's own, but never less than float32."""
    return torch.promote_types(x.dtype, torch.float32)


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn each sequence of x (T, B, D) around within its length; what comes after stays where it is."""
    if lengths is None:
        return x.flip(0)
    n_steps, batch, _ = x.shape
    steps = torch.arange(n_steps, device=x.device)[:, None]  # (T, 1)
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)  # (T, B)
    rows = source * batch + torch.arange(batch, device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)


def at_end(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return each sequence's last step: x (T, B, H) -> (B, H)."""
    return x[-1] if lengths is None else x[lengths - 1, torch.arange(x.shape[1], device=x.device)]


def _gated(n_gates: int) -> Callable[[int, int], dict[str, tuple[int, ...]]]:
    def weight_shapes(input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        rows = n_gates * hidden_size
        return {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }

    return staticmethod(weight_shapes)


class RNN(Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""

    weight_shapes = _gated(1)
    layer = staticmethod(fused_rnn)


class LSTM(Recurrent):
    """Long short-term memory: `cells.lstm_cell`. The state is (h, c)."""

    n_states = 2
    weight_shapes = _gated(4)
    layer = staticmethod(fused_lstm)


class GRU(Recurrent):
    """The gated recurrent unit: `cells.gru_cell`."""

    weight_shapes = _gated(3)
    layer = staticmethod(fused_gru)


class LayerNormLSTM(Recurrent):
    """An LSTM with normalised gates: `cells.layer_norm_lstm_cell`, step by step. The state is (h, c)."""

    n_states = 2

    @staticmethod
    def weight_shapes(input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        gains = {"gain_ih": (4 * hidden_size,), "gain_hh": (4 * hidden_size,)}
        return (
            LSTM.weight_shapes(input_size, hidden_size) | gains | {"gain_c": (hidden_size,), "bias_c": (hidden_size,)}
        )

    @staticmethod
    def layer(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return unroll(layer_norm_lstm_cell, x, (h, c), *weights)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("gain"):
                parameter.fill_(1)
            elif name.startswith("bias"):
                parameter.zero_()


class MinGRU(Recurrent):
    """A GRU whose gate and candidate see x alone: `cells.min_gru_cell`, all steps at once by a scan."""

    @staticmethod
    def weight_shapes(input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {"weight_ih": (2 * hidden_size, input_size), "bias_ih": (2 * hidden_size,)}

    @staticmethod
    def layer(x: Tensor, h: Tensor, w_ih: Tensor, b_ih: Tensor) -> tuple[Tensor]:
        z, n = F.linear(x, w_ih, b_ih).to(exact_dtype(x)).chunk(2, dim=-1)  # each (T, B, H)
        keep, write = torch.sigmoid(-z), torch.sigmoid(z)  # 1 - sigmoid(z) = sigmoid(-z)
        return (scan(keep, write * n, h.to(n.dtype)).to(x.dtype),)


class MinLSTM(Recurrent):
    """An LSTM whose gates see x alone and add up to 1: `cells.min_lstm_cell`, all steps at once by a scan."""

    @staticmethod
    def weight_shapes(input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {"weight_ih": (3 * hidden_size, input_size), "bias_ih": (3 * hidden_size,)}

    @staticmethod
    def layer(x: Tensor, h: Tensor, w_ih: Tensor, b_ih: Tensor) -> tuple[Tensor]:
        i, f, n = F.linear(x, w_ih, b_ih).to(exact_dtype(x)).chunk(3, dim=-1)  # each (T, B, H)
        odds = F.logsigmoid(f) - F.logsigmoid(i)  # f / (f + i) = sigmoid(log f - log i), also where both are near 0
        keep, write = torch.sigmoid(odds), torch.sigmoid(-odds)
        return (scan(keep, write * n, h.to(n.dtype)).to(x.dtype),)


CELLS: dict[str, type[Recurrent]] = {
    "rnn": RNN,
    "lstm": LSTM,
    "gru": GRU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "lstm_ln": LayerNormLSTM,
}


def make_recurrent(
    cell: str, input_size: int, hidden_size: int, n_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
) -> Recurrent:
    """Return the recurrent network called `cell` in CELLS."""
    return CELLS[cell](input_size, hidden_size, n_layers, bidirectional, dropout)
