"""Hugging Face's files, read and written by hand: the format of the tensors, the model's folder, the tokenizer.
不靠 Hugging Face 的库读写其文件：张量的存储格式、模型文件夹与分词器。
"""

from chapter_10_llm_modern_components.hugging_face.hf_compat import read_folder, write_folder
from chapter_10_llm_modern_components.hugging_face.hf_tokenizer import HfTokenizer, read_tokenizer
from chapter_10_llm_modern_components.hugging_face.safetensors_io import read_safetensors, write_safetensors

__all__ = ["HfTokenizer", "read_folder", "read_safetensors", "read_tokenizer", "write_folder", "write_safetensors"]
