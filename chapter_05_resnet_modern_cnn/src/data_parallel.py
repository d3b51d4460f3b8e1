"""Data-parallel training: what processes that share each batch must do together besides averaging their gradients.
数据并行训练：各进程分担每个批次时，除了平均梯度之外还必须一起做的事。

Batch norm is the one layer that looks across a batch. PyTorch's nn.SyncBatchNorm works on CUDA alone; the one here
works wherever processes can add.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from utils.distributed import rank, world_size


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the others enter the block when the first process has left it: what it downloads, they find there."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and world_size() > 1:
        dist.barrier()


def average(x: Tensor) -> Tensor:
    """Return the mean of the processes' tensors `x`; no gradient passes."""
    if world_size() == 1:
        return x.detach()
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / world_size()


def sum_gradients_(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by the sum of the processes' gradients, in one exchange.

    DistributedDataParallel takes the mean, which is right for shares of equal size whose losses are means. Where shares
    differ, as in tokens of sentences, each process divides its sum of losses by what there is in all shares together,
    and the gradients add up.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(total)
    for g, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


class Mean(torch.autograd.Function):
    """The mean of the processes' tensors, through which gradients pass.

    Each process's loss depends on every process's tensor, by a factor of 1 / processes: so the gradients, too, are
    averaged over all of them.
    每个进程的损失都以“1 / 进程数”的系数依赖所有进程的张量，所以反向传播时，梯度同样要在所有进程间取平均。
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return average(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return average(gradient)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance are those of the whole batch, of which each process holds an equal share."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B / processes, C, H, W) -> the same shape, normalised per channel."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        wide = x.to(self.weight.dtype)  # autocast's bfloat16 is too coarse for sums
        mean = Mean.apply(wide.mean(dim=(0, 2, 3)))  # (C,)
        centred = wide - mean.view(-1, 1, 1)
        variance = Mean.apply(centred.square().mean(dim=(0, 2, 3)))  # (C,)
        with torch.no_grad():
            count = world_size() * x.numel() / x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()  # (C,)
        return (centred * scale.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


def synchronise_norms_(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d in the model by a SyncBatchNorm2d with its tensors and settings; return the model.

    Names stay, and so does what an optimizer or a checkpoint knows. A model that is a norm itself is not changed: use
    what is returned.
    """
    if type(model) is nn.BatchNorm2d:
        norm = SyncBatchNorm2d(model.num_features, model.eps, model.momentum).train(model.training)
        norm.weight, norm.bias = model.weight, model.bias
        norm.running_mean, norm.running_var = model.running_mean, model.running_var
        norm.num_batches_tracked = model.num_batches_tracked
        return norm
    for name, child in model.named_children():
        setattr(model, name, synchronise_norms_(child))
    return model
