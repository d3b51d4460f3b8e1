"""A run's flags as one would type them, and the refusal to resume it with others.
把一次运行的参数还原成命令行写法；参数不同时，拒绝恢复训练。
"""

import shlex

from utils.errors import UserError


def typed(name: str, value: object) -> list[str]:
    """Return the words that set a flag; none for what is only set by leaving the flag out."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    words = [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    if len(words) == 1 and words[0].startswith("-") and isinstance(value, str):
        return [f"--{name}={words[0]}"]  # else it would be taken for another flag
    return [f"--{name}", *words]


def check_flags(path: object, saved: dict[str, object], now: dict[str, object]) -> None:
    """Compare the flags with which `path` was made with those of this run.

    Raises:
        UserError: they differ; says what to type.
    """
    if unknown := saved.keys() ^ now.keys():
        names = " ".join(f"--{name}" for name in sorted(unknown))
        raise UserError(f"{path} is of another version of this script, with other flags ({names}): leave out --resume")
    changed = {name: value for name, value in saved.items() if now[name] != value}
    if not changed:
        return
    words = [word for name, value in changed.items() for word in typed(name, value)]
    without = [f"--{name}" for name, value in changed.items() if not typed(name, value)]
    advice = ([f"with {shlex.join(words)}"] if words else []) + ([f"without {' '.join(without)}"] if without else [])
    raise UserError(f"{path} was made {' and '.join(advice)}: repeat that, or leave out --resume to start anew")
