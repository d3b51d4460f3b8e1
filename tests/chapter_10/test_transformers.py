"""Against Hugging Face's transformers: the same logits from the same weights, both ways, and the same ways to sample.
与 Hugging Face 的 transformers 对照：双向交换权重后 logits 一致，采样过滤器也一致。
"""

import unicodedata

import pytest
import torch

from chapter_10_llm_modern_components.blocks import MixtureOfExperts
from chapter_10_llm_modern_components.generation import Sampler, generate, keep_min_p, penalize_repetition
from chapter_10_llm_modern_components.hugging_face import read_tokenizer
from chapter_10_llm_modern_components.hugging_face.hf_compat import CLASSES, read_folder, write_folder
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig

AWKWARD = [
    "",
    "Hello, world!  It's 3.14159\n\n  I'LL go.",
    "naïve café 😀 你好，世界！",
    "\t x\u00a0y \r\n",
    "e\u0301 a_b²",
]
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
TINY = {"n_tokens": 23, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "max_length": 64}
LLAMA3 = {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_length": 16, "rope_base": 500.0}
CASES = {
    "llama": {"d_head": 6},
    "llama, a head of keys each, biases, untied": {"n_kv_heads": None, "bias": True, "tied": False},
    "llama, linear scaling": {"rope_scaling": "linear", "rope_factor": 4.0, "tied": False, "n_kv_heads": 1},
    "llama, llama3 scaling": LLAMA3 | {"norm_eps": 1e-3},
    "qwen3": {"qk_norm": True, "d_head": 8, "tied": False},
    "mistral": {"window": 3},
}


def randomized(model):
    torch.manual_seed(0)  # larger weights make scores in which float32 itself is off by 1e-5, on either side
    with torch.no_grad():
        for parameter in model.parameters():
            vector = parameter.ndim == 1
            parameter.copy_(torch.rand_like(parameter) + 0.5 if vector else 0.2 * torch.randn_like(parameter))
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case, tmp_path):
    pytest.importorskip("transformers", reason="transformers is in requirements-dev.txt")
    from transformers import AutoModelForCausalLM

    ours, ids = randomized(LanguageModel(ModelConfig(**TINY | CASES[case]))), torch.randint(23, (2, 24))
    write_folder(tmp_path / "ours", ours)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert type(theirs).__name__ == CLASSES[case.split(",")[0]]
    compare(ours, theirs, ids)
    tokens = [row[0] for row in generate(ours, [ids[0].tolist()], 20, Sampler(temperature=0))]
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones(1, 24)}
    assert tokens == theirs.generate(ids[:1], **options)[0, 24:].tolist()

    randomized(theirs).save_pretrained(tmp_path / "theirs", max_shard_size="8KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    compare(read_folder(tmp_path / "theirs").model, theirs, ids)


def compare(ours, theirs, ids):
    """All at once, and through our caches in parts."""
    expected = theirs(ids).logits
    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-5)
    caches = ours.new_caches(ids.shape[1])
    parts = [ours(part, caches) for part in ids.split([9, 14, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-5)


def test_sampling_and_balance_are_those_of_transformers():
    pytest.importorskip("transformers", reason="transformers is in requirements-dev.txt")
    from transformers.generation.logits_process import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits, seen = torch.randn(3, 23), torch.randint(23, (3, 5))
    assert torch.equal(keep_min_p(logits, 0.3), MinPLogitsWarper(0.3)(seen, logits))
    expected = RepetitionPenaltyLogitsProcessor(1.4)(seen, logits)
    for i in range(3):
        assert torch.equal(penalize_repetition(logits[i], seen[i].tolist(), 1.4), expected[i])
    layer, x = MixtureOfExperts(6, 4, 5, 2), torch.randn(40, 6)
    layer(x)
    expected = load_balancing_loss_func((layer.router(x),), num_experts=5, top_k=2) / 2  # they count k choices a token
    torch.testing.assert_close(layer.balance, expected)


def test_tokenizers_files_cut_texts_as_tokenizers_does(tmp_path):
    pytest.importorskip("tokenizers", reason="transformers, which brings tokenizers, is in requirements-dev.txt")
    from tokenizers import Regex, Tokenizer, models, normalizers, processors
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
    from tokenizers.trainers import BpeTrainer

    plain, bytes_alone = ByteLevel(add_prefix_space=False), ByteLevel(add_prefix_space=False, use_regex=False)
    llama3 = Sequence([Split(Regex(LLAMA3_PATTERN), "isolated"), bytes_alone])
    for cut in (plain, llama3, Sequence([Digits(individual_digits=True), plain])):
        theirs = Tokenizer(models.BPE(ignore_merges=cut is llama3))
        theirs.pre_tokenizer, theirs.normalizer = cut, normalizers.NFC()
        special = {"special_tokens": ["<s>", "</s>"], "initial_alphabet": ByteLevel.alphabet()}
        theirs.train_from_iterator(AWKWARD * 3, BpeTrainer(vocab_size=300, show_progress=False, **special))
        theirs.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        theirs.save(str(tmp_path / "tokenizer.json"))
        ours = read_tokenizer(tmp_path / "tokenizer.json")
        assert len(ours) == theirs.get_vocab_size() > 280 and ours.special == {"<s>": 0, "</s>": 1}
        for text in [*AWKWARD, " ".join(AWKWARD)]:
            ids = [*ours.start, *ours.encode(text)]
            assert ids == theirs.encode(text).ids, text
            assert ours.decode(ids[1:]) == unicodedata.normalize("NFC", text)
        assert ours.encode("a</s>b", ["</s>"]) == theirs.encode("a</s>b").ids[1:] != ours.encode("a</s>b")
