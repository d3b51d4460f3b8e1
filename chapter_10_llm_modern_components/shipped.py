"""Loads a language model and its tokenizer: the one that ships, another checkpoint, or a Hugging Face folder.
载入语言模型及其分词器：随仓库发布的模型、其他检查点，或 Hugging Face 文件夹。
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from chapter_10_llm_modern_components.alignment import AdaptedJudge, RewardModel
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import CHAT_TOKENS, END
from chapter_10_llm_modern_components.generation import transpose_weights_
from chapter_10_llm_modern_components.hugging_face import HfTokenizer, read_folder, read_tokenizer
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig, build_model
from chapter_10_llm_modern_components.model_compression import PROJECTIONS, AdaptedModel, LoRAConfig, merge_, quantize_
from utils.checkpoint import load_model, read_model
from utils.errors import UserError

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
UNTRAINED = Path("untrained")  # in place of a file: a tiny model that has learnt nothing
ENDS = ("<|endoftext|>", END)  # special tokens with which a text, or a turn of a chat, ends


@dataclass
class Writer:
    """A model, its tokenizer, and the tokens after which it has nothing more to say."""

    model: LanguageModel
    tokenizer: ByteTokenizer | HfTokenizer
    end_tokens: list[int]

    def encode_prompt(self, text: str) -> list[int]:
        """Return the tokens of a text to go on from, which are not none: an empty one is a text's very beginning."""
        start = getattr(self.tokenizer, "start", [])
        return [*start, *self.tokenizer.encode(text)] or self.end_tokens[:1] or self.tokenizer.encode("\n")

    def visible_tokens(self) -> list[bytes]:
        """Return the bytes that each of the model's tokens shows: special ones, and those that no text has, none."""
        tokens, hidden = list(self.tokenizer.tokens), self.tokenizer.special.values()
        tokens += [b""] * (self.model.config.n_tokens - len(tokens))
        return [b"" if i in hidden else token for i, token in enumerate(tokens)]


def load_writer(path: Path | None, device: torch.device) -> Writer:
    """Return the model at `path`, a checkpoint or a folder in Hugging Face's format; None: the one that ships.

    Its weights lie in memory as suits writing, see `transpose_weights_`.

    Raises:
        UserError: there is none, it is damaged, or its tokenizer is missing or has more tokens than the model.
    """
    writer = load_learner(path, device)
    transpose_weights_(writer.model)
    return writer


def load_chat(
    path: Path | None, device: torch.device, adapter: Path | None = None, number_format: str = "none"
) -> Writer:
    """Return a model that answers, None: what ships; with an adapter that a script has trained, if there is one.

    Args:
        number_format: one of `FORMATS`, to which the weights below the adapter are rounded, or "none".

    Raises:
        UserError: as `load_writer`; or it has no tokens for the turns of a conversation; or the adapter is another's.
    """
    path = CHECKPOINTS / "sft.pth" if path is None else path
    if path != UNTRAINED:
        check_made(path, "sft.py makes a model that answers, and says in the end how to use it")
    writer = load_writer(path, device)
    check_chat_tokens(writer)
    if number_format != "none":
        quantize_(writer.model, number_format)
    if adapter is not None:
        load_adapter(adapter, writer.model)
        if number_format == "none":
            merge_(writer.model)
    return writer


def check_chat_tokens(writer: Writer) -> None:
    """Raise a UserError unless the tokenizer has the tokens of a conversation."""
    if missing := sorted(set(CHAT_TOKENS) - writer.tokenizer.special.keys()):
        raise UserError(f"the model has no token {' '.join(missing)}, without which there is no conversation")


def check_made(path: Path, what: str) -> None:
    """Raise a UserError that tells which script makes such a file or folder, if it is not there."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; chapter_10_llm_modern_components/{what}")


def check_fits(what: str, n_tokens: int, model: LanguageModel) -> None:
    """Raise a UserError unless the model can read so many tokens; `what` is the flag that asks for them."""
    longest = model.config.max_length
    if n_tokens > longest:
        raise UserError(f"{what} {n_tokens} is more than the {longest} tokens of the model's context")


def check_rank(rank: int, model: LanguageModel) -> None:
    """Raise a UserError unless all layers that get adapters can have such of this rank."""
    layers = [module for name, module in model.named_modules() if name.rpartition(".")[2] in PROJECTIONS]
    narrowest = min(min(layer.weight.shape) for layer in layers)
    if rank > narrowest:
        raise UserError(f"--rank {rank} is more than the {narrowest} numbers of the model's narrowest layer")


def load_learner(path: Path | None, device: torch.device) -> Writer:
    """Like `load_writer`, with the weights in memory as a training has them."""
    path = CHECKPOINTS / "stories.pth" if path is None else path
    if path == UNTRAINED:
        return untrained(device)
    check_made(path, "pretrain.py trains a model, and says in the end how to use it")
    writer = _from_folder(path, device) if path.is_dir() else _from_checkpoint(path, device)
    n_tokens = writer.model.config.n_tokens
    if len(writer.tokenizer) > n_tokens:
        raise UserError(f"{path}: its tokenizer has {len(writer.tokenizer)} tokens, more than its model's {n_tokens}")
    return writer


def load_adapter(path: Path, model: LanguageModel) -> dict:
    """Give a model the adapters at `path`, which a training with LoRA has written; return the facts about them.

    Raises:
        UserError: the file is missing, damaged, or another model's.
    """
    check_made(path, "dpo.py, grpo.py and adapt.py make adapters for a model that answers")
    return read_model(path, lambda config: AdaptedModel(model, LoRAConfig(**config)))[1]


def load_reward_model(path: Path, decoder: LanguageModel) -> RewardModel:
    """Return the judge at `path`, which reward.py has made of a model that answers, and that now is a part of it.

    Raises:
        UserError: the file is missing, damaged, or another model's.
    """
    check_made(path, "reward.py makes a judge of a model that answers")
    judge = RewardModel(decoder)
    read_model(path, lambda config: AdaptedJudge(judge, LoRAConfig(**config)))
    return judge.eval()


def untrained(device: torch.device) -> Writer:
    tokenizer = ByteTokenizer([(116, 104), (256, 101)], [ENDS[0], *CHAT_TOKENS])  # th, the
    config = ModelConfig(len(tokenizer), d_model=8, n_layers=2, n_heads=2, d_ff=8, max_length=400)
    return Writer(LanguageModel(config).to(device).eval(), tokenizer, [])


def _from_checkpoint(path: Path, device: torch.device) -> Writer:
    model, about = load_model(path, build_model, device)
    try:
        tokenizer = ByteTokenizer(**about["tokenizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no tokenizer beside its model") from error
    return Writer(model, tokenizer, [tokenizer.special[name] for name in ENDS if name in tokenizer.special])


def _from_folder(path: Path, device: torch.device) -> Writer:
    folder = read_folder(path)
    return Writer(folder.model.to(device), read_tokenizer(path / "tokenizer.json"), folder.end_tokens)
