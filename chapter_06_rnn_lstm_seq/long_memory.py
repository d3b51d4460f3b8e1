"""Two tasks that need a long memory, starts that give a network one, and a measure of how far back its gradients reach.
两个考验长期记忆的任务，有助于记忆的初始化，以及梯度能传回多远的度量。

    python chapter_06_rnn_lstm_seq/memory_tasks.py      # trains the cells on both
"""

import torch
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.recurrent import GRU, LSTM, RNN, MinGRU, Recurrent

BLANK, GO, N_SYMBOLS = 0, 1, 8  # the tokens of the copy task: blank, go, and from 2 on the symbols
N_TOKENS = 2 + N_SYMBOLS
N_COPIED = 5


def adding_problem(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return x (B, T, 2) and the sums y (B,): numbers from 0 to 1, of which two are marked and to be added.

    One of the first ten steps (or of the first half, in short sequences) is marked, and one of the rest of the first
    half, so at least T/2 steps lie between the last mark and the answer (Hochreiter & Schmidhuber 1997, section 5.4;
    their numbers go from -1 to 1). Whoever always answers 1 has a mean squared error of 1/6.
    """
    values = torch.rand(batch, length, generator=generator)
    early = min(10, length // 4)
    first = torch.randint(early, (batch,), generator=generator)
    second = torch.randint(early, length // 2, (batch,), generator=generator)
    marks = torch.zeros(batch, length)
    rows = torch.arange(batch)
    marks[rows, first] = 1
    marks[rows, second] = 1
    return torch.stack([values, marks], dim=-1), (values * marks).sum(dim=1)


def copy_problem(batch: int, lag: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens x (B, T) and targets y (B, 5), T = lag + 10: five of 8 symbols, `lag` - 1 blanks, go, five blanks.

    The symbols are to be repeated in the last five steps, in which nothing but blanks comes in (Hochreiter &
    Schmidhuber 1997; Arjovsky et al. 2016, section 4.1, with ten symbols). Guessing is right one time in eight.
    """
    x = torch.full((batch, lag + 2 * N_COPIED), BLANK)
    y = torch.randint(N_SYMBOLS, (batch, N_COPIED), generator=generator)
    x[:, :N_COPIED] = y + 2
    x[:, -N_COPIED - 1] = GO
    return x, y


@torch.no_grad()
def long_memory_init_(net: Recurrent, n_steps: int, generator: torch.Generator) -> Recurrent:
    """Initialise a network so that what it holds lasts for up to `n_steps`, in place; return it.

    Gates: a unit that keeps a share k of itself each step forgets within about 1 / (1 - k) steps. The biases are drawn
    so that these times lie between 2 and `n_steps` (Tallec & Ollivier 2018, section 2). RNN: W_hh becomes orthogonal,
    so that at first neither states nor gradients shrink by it (Saxe et al. 2014).
    """
    for suffix in net.suffixes:
        hidden = net.hidden_size
        times = 1 + (max(n_steps, 3) - 2) * torch.rand(hidden, generator=generator)  # from 1 to n_steps - 1
        logit = torch.log(times)
        if isinstance(net, RNN):
            nn.init.orthogonal_(net.get_parameter(f"weight_hh{suffix}"), generator=generator)
            continue
        bias = net.get_parameter(f"bias_ih{suffix}")
        if not isinstance(net, MinGRU):
            net.get_parameter(f"bias_hh{suffix}").zero_()
        if isinstance(net, LSTM):
            bias[:hidden], bias[hidden : 2 * hidden] = -logit, logit  # input and forget gate
        elif isinstance(net, GRU):
            bias[hidden : 2 * hidden] = logit  # z is what is kept
        elif isinstance(net, MinGRU):
            bias[:hidden] = -logit  # z is what is written
    return net


def gradient_by_lag(net: Recurrent, x: Tensor, readout: nn.Module) -> Tensor:
    """Return how strongly the answer after the last step depends on the state `lag` steps before: (T,), by lag from 0.

    It is the norm of d(sum of the answers) / d(state), averaged over batch and layers; an LSTM's state is h and c
    together. The network is fed step by step: x (B, T, D). `readout`: (B, H) of the last layer -> answers.
    """
    states, state = [], None
    for t in range(x.shape[1]):
        output, state = net(x[:, t : t + 1], state)
        parts = (state,) if isinstance(state, Tensor) else state
        states.append(parts)
    answers = readout(parts[0][-1]).sum()
    flat = [s for parts in states for s in parts]
    grads = torch.autograd.grad(answers, flat, materialize_grads=True)  # each (layers, B, H)
    per_step = [torch.cat(grads[i : i + len(parts)], dim=-1) for i in range(0, len(flat), len(parts))]
    return torch.stack([g.norm(dim=-1).mean() for g in per_step]).flip(0)  # (T,)
