"""What the tests of chapter 9 compare with: leaves to differentiate by, and equality with gradients.
第 9 章各测试共用：造出可求导的输入，连同梯度一起比较。
"""

import torch


def random(*shape):
    """A leaf in float64."""
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def gradients(output, inputs):
    """By the inputs, of a sum in which every number of the output has another weight."""
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs, retain_graph=True)


def check_equal(ours, theirs, inputs, tolerance=1e-9):
    """Compare two outputs and their gradients by the inputs."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    for i, (mine, wanted) in enumerate(zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True)):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=tolerance, msg=lambda text, i=i: f"input {i}: {text}")
