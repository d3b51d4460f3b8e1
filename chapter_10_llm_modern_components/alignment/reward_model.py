"""A reward model: which of two answers people like better, learned as a number for each.
奖励模型：从“两个回答里人们更喜欢哪个”学出每个回答的分数。
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.model_compression import AdaptedModel


class RewardModel(nn.Module):
    """A decoder whose last token, which has seen the whole text, is rated by a linear layer (Ouyang et al. 2022).

    It begins at 0 for every text: which answers are good it has yet to learn, while the decoder can read already.
    """

    def __init__(self, decoder: LanguageModel):
        super().__init__()
        self.decoder = decoder
        self.head = nn.Linear(decoder.config.d_model, 1, bias=False)  # a bias would cancel in every comparison
        nn.init.zeros_(self.head.weight)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids (B, T), padded at the end to one length, and how many of each are real (B,) -> rewards (B,)."""
        hidden = self.decoder.hidden(ids)  # (B, T, D)
        last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]  # (B, D): padding behind it is not seen
        return self.head(last).squeeze(-1)


class AdaptedJudge(AdaptedModel):
    """What a judge's file is read into: adapters of the decoder, and the head's weights."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        head = state["head.weight"]
        super().load_state_dict({name: tensor for name, tensor in state.items() if name != "head.weight"})
        self.model.head.load_state_dict({"weight": head})


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, margin: float = 0.0) -> Tensor:
    """Return the mean of -log sigmoid(chosen - rejected - margin) over pairs (N,), () (Bradley & Terry 1952).

    The sigmoid is the probability that people prefer the first: only differences count, and a difference of 0 costs
    ln 2. With a margin the difference has to be larger for the same loss.
    """
    return -F.logsigmoid(chosen - rejected - margin).mean()


def pair_accuracy(chosen: Tensor, rejected: Tensor) -> float:
    """Return the share of pairs (N,) in which the chosen one has more reward; a tie is half a hit, as a guess is."""
    return ((chosen > rejected).float() + (chosen == rejected).float() / 2).mean().item()
