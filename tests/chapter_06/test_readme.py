"""The plain code in the chapter's README computes what the modules compute, in both languages.
本章 README 中的朴素代码与模块的计算结果一致，中英文两版都检查。
"""

import math
import re

import numpy as np
import pytest
import torch

from chapter_06_rnn_lstm_seq import manual_bptt
from chapter_06_rnn_lstm_seq.audio import mel_filterbank, power_spectrum
from chapter_06_rnn_lstm_seq.recurrent import LSTM, RNN
from chapter_06_rnn_lstm_seq.sampling import keep_top_p
from chapter_06_rnn_lstm_seq.scan import scan
from tests.conftest import ROOT

FLOAT = torch.float64


@pytest.fixture(params=["README.md", "README.zh-CN.md"])
def code(request):
    """What the README's Python blocks define."""
    text = (ROOT / "chapter_06_rnn_lstm_seq" / request.param).read_text(encoding="utf-8")
    names = {"torch": torch, "math": math}
    for block in re.findall(r"^```python\n([\s\S]*?)^```", text, re.MULTILINE):
        exec(block, names)
    return names


def random(*shape):
    return torch.randn(shape, dtype=FLOAT, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_rnn_and_its_backward_pass(code):
    torch.manual_seed(0)
    net = RNN(3, 4).double()
    x, arriving = random(6, 3), random(6, 4)
    w_xh, w_hh, b = net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0 + net.bias_hh_l0
    h = code["run_rnn"](x, torch.zeros(4, dtype=FLOAT), w_xh, w_hh, b)
    output, _ = net(x[None])
    torch.testing.assert_close(h, output[0], rtol=0, atol=1e-12)
    (output[0] * arriving).sum().backward()
    dw_xh, dw_hh, db = code["bptt"](x, torch.zeros(4, dtype=FLOAT), h.detach(), arriving, w_hh.detach())
    torch.testing.assert_close(dw_xh, net.weight_ih_l0.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(dw_hh, net.weight_hh_l0.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(db, net.bias_hh_l0.grad, rtol=0, atol=1e-12)


def test_the_unit_in_the_picture(code):
    x, one, half, zero = torch.tensor([[1.0], [0], [0], [0]]), torch.ones(1, 1), torch.full((1, 1), 0.5), torch.zeros(1)
    h = code["run_rnn"](x, zero, one, half, zero)
    assert [round(v, 3) for v in h.flatten().tolist()] == [0.762, 0.363, 0.180, 0.090]
    _, dw_hh, _ = code["bptt"](x, zero, h, torch.tensor([[0.0], [0], [0], [1]]), half)
    assert round(dw_hh.item(), 2) == 0.51
    assert round((code["run_rnn"](x, zero, one, half + 0.01, zero)[-1] - h[-1]).item(), 3) == 0.005


def test_the_backward_pass_is_that_of_manual_bptt(code):
    weights = manual_bptt.init_weights(5, 4, np.random.default_rng(0))
    x, targets, h0 = np.array([[1], [4], [2]]), np.array([[4], [2], [0]]), np.zeros((1, 4))
    h, p = manual_bptt.forward(x, h0, weights)
    gradients, _ = manual_bptt.backward(x, targets, h0, h, p, weights)
    outside = ((p - np.eye(5)[targets]) / 3) @ weights["w_hy"]
    tensors = [torch.from_numpy(a) for a in (np.eye(5)[x[:, 0]], h0[0], h[:, 0], outside[:, 0], weights["w_hh"])]
    for found, name in zip(code["bptt"](*tensors), ("w_xh", "w_hh", "b_h"), strict=True):
        np.testing.assert_allclose(found.numpy(), gradients[name], rtol=0, atol=1e-12)


def test_the_lstm(code):
    torch.manual_seed(0)
    net, x = LSTM(3, 4).double(), random(5, 3)
    h = c = torch.zeros(4, dtype=FLOAT)
    for x_t in x:
        h, c = code["lstm_step"](x_t, h, c, net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0 + net.bias_hh_l0)
    _, (last_h, last_c) = net(x[None])
    torch.testing.assert_close(h, last_h[0, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(c, last_c[0, 0], rtol=0, atol=1e-12)


def test_the_scan(code):
    a, b = random(16, 3).sigmoid(), random(16, 2)[:, :1].expand(-1, 3)
    found = code["scan_pairs"](a, b)
    torch.testing.assert_close(found, scan(a, b, torch.zeros(3, dtype=FLOAT)), rtol=0, atol=1e-12)


def test_training_on_chunks(code):
    torch.manual_seed(0)
    net = LSTM(2, 3).double()
    chunks, losses = [(random(1, 4, 2), random(1, 4, 3)), (random(1, 5, 2), random(1, 5, 3))], []
    code["train_on_chunks"](net, chunks, lambda output, y: (output - y).square().sum(), losses.append)
    whole, _ = net(torch.cat([x for x, _ in chunks], dim=1))
    wanted = (whole - torch.cat([y for _, y in chunks], dim=1)).square().sum()
    torch.testing.assert_close(sum(losses), wanted)
    losses[1].backward()  # ends at the border: the first chunk's graph is not needed


def test_loss_bits_and_perplexity(code):
    loss, bits, perplexity = code["loss_bits_perplexity"](torch.tensor([1 / 4, 1 / 2, 1 / 2, 1 / 4]))
    assert (round(loss.item(), 3), round(bits.item(), 3), round(perplexity.item(), 2)) == (1.040, 1.5, 2.83)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_the_nucleus(code, share):
    logits = random(9)
    torch.testing.assert_close(code["nucleus"](logits.softmax(0), share), keep_top_p(logits, share).softmax(0))
    example = code["nucleus"](torch.tensor([2.0, 1, 0]).softmax(0), 0.7)
    assert [round(p, 3) for p in example.tolist()] == [0.731, 0.269, 0]


def test_the_mel_spectrogram(code):
    x, bank = random(1000).float(), mel_filterbank(40)
    torch.testing.assert_close(code["log_mel_spectrogram"](x, bank), (power_spectrum(x) @ bank).log())
