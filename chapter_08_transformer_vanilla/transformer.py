"""The Transformer: an encoder that reads, a decoder that writes, or either of them alone.
Transformer：编码器负责读，解码器负责写；两者也可以单独使用。

    n_encoder_layers  n_decoder_layers  model            for                                     as in
    some              some              encoder-decoder  one sequence into another: translation  Vaswani et al. 2017
    0                 some              decoder-only     going on with a sequence                Radford et al. 2018
    some              0                 encoder-only     understanding a whole sequence          Devlin et al. 2019
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.initialization import xavier_uniform_
from chapter_07_attention_mechanism.attention import padding_mask
from chapter_08_transformer_vanilla.layers import DecoderLayer, EncoderLayer, KeysValues
from chapter_08_transformer_vanilla.positional_encoding import POSITIONS

Memory = tuple[Tensor | None, Tensor | None]  # (B, S, D) and (B, 1, S), see `Transformer.encode`
State = tuple[Tensor | None, tuple[tuple[KeysValues | None, KeysValues | None], ...]]  # see `Decoder.start`


@dataclass
class TransformerConfig:
    """What rebuilds a model."""

    n_tokens: int  # size V of the vocabulary, which source and target share
    d_model: int = 256
    n_heads: int = 4
    d_ff: int = 1024
    n_encoder_layers: int = 3  # 0: decoder-only
    n_decoder_layers: int = 3  # 0: encoder-only
    dropout: float = 0.1
    norm: str = "pre"  # or "post"; see layers.py
    positions: str = "sinusoidal"  # a key of POSITIONS
    activation: str = "relu"  # a key of ACTIVATIONS
    tie_weights: bool = True  # one matrix embeds tokens and rates them (Press & Wolf 2017)
    max_length: int = 512  # tokens of a sequence; sines go on beyond it, learned positions end there


class Encoder(nn.Module):
    """Layers that all see the whole sequence, and a last norm.

    The last norm is nn.Transformer's: with "pre" nothing else would normalise the sum; with "post" it does little, and
    the paper has none. `options` are those of `EncoderLayer`.
    """

    def __init__(self, n_layers: int, d_model: int, eps: float = 1e-5, **options):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(d_model, eps=eps, **options) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model, eps)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, list[Tensor | None]]:
        """x (B, S, D) -> (B, S, D), and each layer's weights (B, H, S, S) or None; the mask is `EncoderLayer`'s."""
        maps = []
        for layer in self.layers:
            x, weights = layer(x, mask, need_weights)
            maps.append(weights)
        return self.norm(x), maps


class Decoder(nn.Module):
    """Layers of which no position sees a later one, and a last norm; `options` are those of `DecoderLayer`."""

    def __init__(self, n_layers: int, d_model: int, **options):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(d_model, **options) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)

    def start(self, memory: Tensor | None = None, mask: Tensor | None = None) -> State:
        """Return the state before the first token: the mask and, for each layer, two pairs of keys and values.

        The first pair is of the positions written so far, None at the start. The second is of the memory (B, S, D),
        projected here once and for all; None where there is no memory.
        """
        if memory is None:
            return mask, tuple((None, None) for _ in self.layers)
        return mask, tuple((None, tuple(layer.cross_attention.project(memory, 1, 2))) for layer in self.layers)

    def forward(
        self, x: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Tensor, State, list[tuple[Tensor | None, Tensor | None]]]:
        """Go on from a state by x (B, T, D): return (B, T, D), the new state and each layer's weights or None.

        The weights are those of self-attention (B, H, T, P + T), P positions in, and of cross-attention (B, H, T, S).
        """
        mask, pairs = state
        after, maps = [], []
        for layer, (past, memory) in zip(self.layers, pairs, strict=True):
            x, past, weights = layer(x, past, memory, mask, need_weights)
            after.append((past, memory))
            maps.append(weights)
        return self.norm(x), (mask, tuple(after)), maps


class Transformer(nn.Module):
    """Encoder, decoder or both, between an embedding and a linear layer that rates every token as the next one.

    Training calls the model itself. Decoding reads once and then goes on token by token, each a call of `step`, which
    is the `step` of chapter 7's `greedy` and `beam_search`:

        beam_search(model.step, model.start(source, lengths), first_tokens, eos, max_length)

    Raises:
        ValueError: the config has neither encoder nor decoder layers.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        if config.n_encoder_layers + config.n_decoder_layers == 0:
            raise ValueError("a Transformer has at least one layer, of its encoder or its decoder")
        d_model = config.d_model
        options = {name: getattr(config, name) for name in ("n_heads", "d_ff", "dropout", "norm", "activation")}
        cross = config.n_encoder_layers > 0
        self.config = config
        self.embedding = nn.Embedding(config.n_tokens, d_model)
        self.positions = POSITIONS[config.positions](d_model, config.max_length)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config.n_encoder_layers, d_model, **options) if cross else None
        self.decoder = None
        if config.n_decoder_layers > 0:
            self.decoder = Decoder(config.n_decoder_layers, d_model, cross=cross, **options)
        self.head = nn.Linear(d_model, config.n_tokens, bias=False)
        xavier_uniform_(self.head.weight)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)  # so that sqrt(D) times it has variance 1
        if config.tie_weights:
            self.head.weight = self.embedding.weight

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Return sqrt(D) times the tokens' embeddings, plus their positions: (B, T) -> (B, T, D).

        `first` is the position of the first token. Vaswani et al. 2017, sections 3.4 and 3.5.
        """
        x = math.sqrt(self.config.d_model) * self.embedding(tokens)  # (B, T, D)
        return self.dropout(self.positions(x, first))

    def forward(self, tokens: Tensor, lengths: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """Return logits (B, T, V).

        encoder-decoder: (source (B, S), lengths, target (B, T)): what follows each of the target's tokens, all of which
            are given (teacher forcing).
        decoder-only: (tokens (B, T)): what follows each token.
        encoder-only: (tokens (B, T), lengths): which token stands at each position; where it was masked, it is guessed.

        Args:
            lengths: (B,), how many of the encoder's tokens are real, the rest being padding; None: all. A decoder's
                padding needs no lengths: it comes last, where nothing real looks.
        """
        if self.encoder is None:
            return self.decode(tokens)
        memory = self.encode(tokens, lengths)
        return self.decode(target, memory) if self.decoder is not None else self.head(memory[0])

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Memory:
        """Read the source (B, S): return what each position knows (B, S, D), and which positions are real (B, 1, S).

        Without lengths all are, and the mask is None. An encoder-only model is fine-tuned on the first of the two.
        """
        mask = None if lengths is None else padding_mask(lengths, source.shape[1])
        return self.encoder(self.embed(source), mask)[0], mask

    def decode(self, target: Tensor, memory: Memory = (None, None)) -> Tensor:
        """Return the logits (B, T, V) of what follows each of the target's tokens (B, T).

        `memory` is what `encode` returned; a decoder-only model has none.
        """
        return self.head(self.decoder(self.embed(target), self.decoder.start(*memory))[0])

    def start(self, source: Tensor, lengths: Tensor | None = None) -> State:
        """Read what comes first and return the state from which `step` goes on: all its tensors have B in front.

        An encoder-decoder encodes the source (B, S). A decoder-only model reads it as the beginning of the text: `step`
        is to be given the token behind it. The beginning may be empty, (B, 0).
        """
        if self.encoder is not None:
            return self.decoder.start(*self.encode(source, lengths))
        state = self.decoder.start()
        return self.decoder(self.embed(source), state)[1] if source.shape[1] else state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one more token of each of N sequences, (N,); return the log-probabilities (N, V) of the next.

        And the state after it. Only the new position is computed: the keys and values of earlier ones are in the state.
        """
        past = state[1][0][0]  # the first layer's keys and values, (N, H, P, D/H) each
        n_past = 0 if past is None else past[0].shape[2]
        hidden, state, _ = self.decoder(self.embed(tokens[:, None], n_past), state)  # (N, 1, D)
        logits = self.head(hidden[:, 0])  # (N, V)
        return logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)), state

    @torch.no_grad()
    def attention_maps(
        self, tokens: Tensor, lengths: Tensor | None = None, target: Tensor | None = None
    ) -> dict[str, list[Tensor]]:
        """Return the weights of every layer and head; the arguments are those of `forward`.

        One tensor a layer: "encoder" (B, H, S, S), "decoder" (B, H, T, T), "cross" (B, H, T, S). Of what the model
        lacks the list is empty.
        """
        maps, memory = {"encoder": [], "decoder": [], "cross": []}, (None, None)
        if self.encoder is not None:
            mask = None if lengths is None else padding_mask(lengths, tokens.shape[1])
            hidden, maps["encoder"] = self.encoder(self.embed(tokens), mask, need_weights=True)
            memory = hidden, mask
        if self.decoder is not None:
            x = self.embed(tokens if self.encoder is None else target)
            _, _, pairs = self.decoder(x, self.decoder.start(*memory), need_weights=True)
            maps["decoder"] = [own for own, _ in pairs]
            maps["cross"] = [cross for _, cross in pairs if cross is not None]
        return maps
