"""Caches of keys and values: what decoding keeps of the tokens it has read, and how many bytes that takes.
键值缓存：解码时要保留已读词元的哪些东西，占多少字节。

Each new token needs the keys and values of all before it, and these do not change. All caches are used alike:

    k, v = cache.append(k, v)    # (B, H, T, d) of T new tokens in, (B, H, S, d) of all that can still be seen out

They get their memory with the first tokens, written in place from then on, so no gradient goes through them.

    ContiguousCache   one row a sequence, as long as it may become
    RingCache         the last tokens only, and the very first: new ones overwrite the oldest
    PagedCache        blocks out of a pool that several sequences share (Kwon et al. 2023)
    QuantizedCache    8 bits a number, and one scale a token and head
    StateCache        for layers that keep a state instead of tokens
"""

import torch
from torch import Tensor


class Cache:
    """What all caches know: how many tokens were appended, `length`, and how many bytes their tensors hold."""

    def __init__(self):
        self.length = 0

    def tensors(self) -> list[Tensor]:
        """Return the tensors that hold what is kept."""
        raise NotImplementedError

    @property
    def positions(self) -> Tensor:
        """The places (S,) of the tokens that the last `append` returned."""
        return torch.arange(self.length)

    @property
    def n_bytes(self) -> int:
        """Bytes of the live tensors, used or not."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors())


class ContiguousCache(Cache):
    """Memory for `capacity` tokens of each sequence, filled from the left."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity
        self.k = self.v = None  # (B, H, capacity, d), (B, H, capacity, d_v)

    def tensors(self) -> list[Tensor]:
        return [] if self.k is None else [self.k, self.v]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k (B, H, T, d) and v (B, H, T, d_v) behind the others; return all, (B, H, S, d) and (B, H, S, d_v).

        Raises:
            ValueError: the cache is full.
        """
        start, end = self.length, self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit into a cache for {self.capacity}")
        if self.k is None:
            self.k, self.v = (x.new_empty(*x.shape[:2], self.capacity, x.shape[3]) for x in (k, v))
        for memory, x in ((self.k, k), (self.v, v)):
            memory.narrow(2, start, x.shape[2]).copy_(x)
        self.length = end
        return self.k.narrow(2, 0, end), self.v.narrow(2, 0, end)

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`: what comes next overwrites them."""
        self.length = min(self.length, length)


class RingCache(Cache):
    """Memory for the last `size` tokens, written round and round, and for the first `n_sinks`, which stay.

    Enough for a layer that looks no further back (Beltagy et al. 2020), or there and at the first few tokens (Xiao et
    al. 2024). Tokens come back in the order of their slots; `positions` says which they are.
    """

    def __init__(self, size: int, n_sinks: int = 0):
        super().__init__()
        self.size, self.n_sinks = size, n_sinks
        self.slot_positions = torch.empty(n_sinks + size, dtype=torch.long)
        self.k = self.v = None  # (B, H, n_sinks + size, d)
        self._returned = self.slot_positions[:0]

    def tensors(self) -> list[Tensor]:
        return [] if self.k is None else [self.k, self.v, self.slot_positions]

    @property
    def positions(self) -> Tensor:
        return self._returned

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens kept so far and the T new ones; then let the new ones overwrite the oldest.

        One token is written first and nothing is copied: what it overwrites, it cannot see.
        """
        if self.k is None:
            self.k, self.v = (x.new_empty(*x.shape[:2], len(self.slot_positions), x.shape[3]) for x in (k, v))
        new = torch.arange(self.length, self.length + k.shape[2])  # (T,)
        if len(new) == 1:
            self._write(k, v, new)
            filled = min(self.length, len(self.slot_positions))
            self._returned = self.slot_positions[:filled].clone()
            return self.k[:, :, :filled], self.v[:, :, :filled]
        filled = min(self.length, len(self.slot_positions))
        k_all, v_all = torch.cat([self.k[:, :, :filled], k], 2), torch.cat([self.v[:, :, :filled], v], 2)
        self._returned = torch.cat([self.slot_positions[:filled], new])
        self._write(k, v, new)
        return k_all, v_all

    def _write(self, k: Tensor, v: Tensor, new: Tensor) -> None:
        self.length += len(new)
        stays = (new < self.n_sinks) | (new >= self.length - self.size)  # of many tokens the first pass by
        place = new[stays]
        slot = torch.where(place < self.n_sinks, place, self.n_sinks + (place - self.n_sinks) % self.size)
        self.slot_positions[slot] = place
        self.k[:, :, slot], self.v[:, :, slot] = k[:, :, stays], v[:, :, stays]


class BlockPool:
    """Memory for `n_blocks` blocks of `block_size` tokens, which caches borrow and give back."""

    def __init__(self, n_blocks: int, block_size: int):
        self.n_blocks, self.block_size = n_blocks, block_size
        self.free = list(range(n_blocks))
        self.k = self.v = None  # (n_blocks, H, block_size, d), (n_blocks, H, block_size, d_v)

    def allocate(self, k: Tensor, v: Tensor) -> None:
        """Get the memory, for tokens like k (B, H, T, d) and v (B, H, T, d_v), unless it is there."""
        if self.k is None:
            self.k, self.v = (x.new_empty(self.n_blocks, x.shape[1], self.block_size, x.shape[3]) for x in (k, v))

    def borrow(self, count: int) -> list[int]:
        """Return the numbers of as many blocks, which are the borrower's now.

        Raises:
            ValueError: fewer are free; then none is lent.
        """
        if count > len(self.free):
            raise ValueError(f"{count} blocks are wanted, but {len(self.free)} of the pool's {self.n_blocks} are free")
        return [self.free.pop() for _ in range(count)]


class PagedCache(Cache):
    """A cache whose memory is blocks of a pool, wherever they lie; a block table says which (Kwon et al. 2023, 4.2).

    No sequence reserves more than the rest of its last block, and what it used is free for others when it ends.
    """

    def __init__(self, pool: BlockPool):
        super().__init__()
        self.pool = pool
        self.table = torch.empty(0, 0, dtype=torch.long)  # (B, n): the n blocks of each sequence, in order

    def tensors(self) -> list[Tensor]:
        """Return the table, and the blocks that it lists as views of the pool."""
        return [self.table, *(pool[block] for block in self.table.flatten() for pool in (self.pool.k, self.pool.v))]

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())  # the pool's other blocks are not this cache's

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k (B, H, T, d) and v (B, H, T, d_v) into blocks, borrowing what is missing; return all, in order."""
        self.pool.allocate(k, v)
        batch, size, end = len(k), self.pool.block_size, self.length + k.shape[2]
        missing = max(0, -(-end // size) - self.table.shape[1])
        borrowed = torch.tensor(self.pool.borrow(batch * missing), dtype=torch.long).view(batch, missing)
        self.table = torch.cat([self.table.view(batch, -1), borrowed], dim=1)
        places = torch.arange(self.length, end)
        blocks = self.table[:, places // size]  # (B, T)
        for memory, x in ((self.pool.k, k), (self.pool.v, v)):
            memory[blocks, :, places % size] = x.transpose(1, 2)  # (B, T, H, d)
        self.length = end
        return self._gather(self.pool.k), self._gather(self.pool.v)

    def _gather(self, memory: Tensor) -> Tensor:
        blocks = memory[self.table].transpose(1, 2)  # (B, n, H, size, d) -> (B, H, n, size, d)
        return blocks.flatten(2, 3)[:, :, : self.length]  # (B, H, S, d)

    def release(self) -> None:
        """Give all blocks back: the sequences are done."""
        self.pool.free += self.table.flatten().tolist()
        self.table, self.length = self.table[:, :0], 0


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes (..., d), int8, and a scale (..., 1), float32, with x ~ scale codes.

    The largest number of each row becomes 127 or -127, so no error is larger than scale / 2 = max |x| / 254.
    """
    scale = x.abs().amax(dim=-1, keepdim=True).float() / 127  # (..., 1)
    codes = (x / scale.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8)
    return codes, scale


class QuantizedCache(Cache):
    """Two contiguous caches: one of 8-bit codes, one of their scales, of each token and head (Dettmers et al. 2022)."""

    def __init__(self, capacity: int):
        super().__init__()
        self.codes, self.scales = ContiguousCache(capacity), ContiguousCache(capacity)

    def tensors(self) -> list[Tensor]:
        return self.codes.tensors() + self.scales.tensors()

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k (B, H, T, d) and v (B, H, T, d_v) in 8 bits; return all, as they are read back."""
        (k_codes, k_scale), (v_codes, v_scale) = quantize(k), quantize(v)
        k_codes, v_codes = self.codes.append(k_codes, v_codes)  # (B, H, S, d)
        k_scale, v_scale = self.scales.append(k_scale, v_scale)  # (B, H, S, 1)
        self.length = self.codes.length
        return (k_codes * k_scale).to(k.dtype), (v_codes * v_scale).to(v.dtype)


class StateCache(Cache):
    """A state of fixed size: tensors that each step replaces, however many tokens there were."""

    def __init__(self):
        super().__init__()
        self.state: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        return [] if self.state is None else [self.state]

    def replace(self, state: Tensor, n_tokens: int) -> None:
        """Keep the state after `n_tokens` more tokens."""
        self.state, self.length = state.clone(), self.length + n_tokens  # not a view of all chunks' states
