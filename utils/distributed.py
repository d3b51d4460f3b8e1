"""Several processes, started by torchrun, that train one model, each on its share of every batch.
由 torchrun 启动的多个进程共同训练一个模型，每个进程处理每个批次中属于自己的一份。

torchrun tells each process in environment variables who it is. Without them there is one, and nothing here does much.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
import torch.distributed as dist

from utils.errors import UserError

TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # a RANK alone is somebody else's


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Belong to torchrun's processes while the block runs; all but the first one then print nothing to stdout."""
    if not TORCHRUN <= os.environ.keys():
        yield
        return
    if device.type == "mps":
        raise UserError("several processes compute on CPUs or on CUDA: add --device cpu")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # from here on "cuda" is this process's own GPU
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if rank() else sys.stdout):
            yield
    except RuntimeError as error:
        if " by peer" not in str(error):  # how gloo says that a connection has ended
            raise
        raise UserError("another of the processes has stopped: see what it said") from error
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return which process this is: 0 is the one that prints and writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
