"""A tool: the model writes a sum, a program works it out and puts the result into the text.
工具调用：模型写出算式，程序算出结果并填回文本。
"""

import ast
import operator
import re
from collections.abc import Callable

from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue.chat_format import CALL, NO_RESULT, RESULT

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
LONGEST = 64  # characters of an expression
LARGEST = 10**12


def calculate(expression: str) -> int:
    """Return the value of an expression of whole numbers, + - * // and brackets: "12*7" -> 84.

    A model may write anything, so nothing is run: the expression is taken apart, and what is not known is refused.

    Raises:
        ValueError: it is something else, divides by 0, or is too long or its value too large.
    """
    if len(expression) > LONGEST or not re.fullmatch(r"[0-9+\-*/() ]+", expression):
        raise ValueError(f"not a sum: {expression[:LONGEST]}")
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"not a sum: {expression}") from error


def _value(node: ast.AST) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        value = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        value = OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    else:
        raise ValueError(f"a calculator knows no {type(node).__name__}")
    if abs(value) > LARGEST:
        raise ValueError(f"larger than {LARGEST}")
    return value


def result_inserter(tokenizer: ByteTokenizer, there: bool = True) -> Callable[[list[int]], list[int]]:
    """Return what `generate` asks for tokens to insert: after <|call|> 12*7 <|result|> these are the tokens of 84.

    Args:
        there: False: there is no calculator, and whoever calls it reads "error".
    """
    call, result = tokenizer.special[CALL], tokenizer.special[RESULT]

    def given(ids: list[int]) -> list[int]:
        if ids[-1] != result:
            return []
        if not there:
            return tokenizer.encode(NO_RESULT)
        start = max((i for i, token in enumerate(ids) if token == call), default=len(ids) - 1)
        try:
            return tokenizer.encode(str(calculate(tokenizer.decode(ids[start + 1 : -1]))))
        except ValueError:
            return tokenizer.encode(NO_RESULT)

    return given
