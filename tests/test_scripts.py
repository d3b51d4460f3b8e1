"""Every script of the book keeps the contract of scripts, and every command quoted in the book is one it understands.
全书每个脚本都遵守同样的约定，书中引用的每条命令都能被脚本识别。
"""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT, SCRIPTS, load_script
from utils.errors import UserError

from matplotlib.figure import Figure

READMES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("utils/README*.md"), *ROOT.glob("chapter_*/**/README*.md")])
READMES += sorted(ROOT.glob("chapter_*/appendix*.md"))
COMMAND = re.compile(r"python3? (chapter_\w+/[\w/]+\.py)([^\n`]*)")
WRITES = re.compile(r"\b(save_(figure|pictures|model|state)|write_(model|results|json)|atomic_write)\(")
SHORT = {"--epochs": "2", "--max_steps": "4"}  # a dry run of fifty epochs shows no more than one of two
OFFLINE_SETS = {"dataset", "corpus"}  # flags by which a dry run chooses what needs no download
ADVICE = re.compile(r"(--\w+)(?: ([\w-]+))?")
EVERYWHERE = {"help", "device", "dry_run", "seed"}  # these are honoured by `begin`


def relative(path):
    return path.relative_to(ROOT).as_posix()


def contents(folders):
    """What lies in the folders: path -> (time of the last change, size)."""
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {relative(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in files}


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_a_script_explains_itself(path, capsys):
    with pytest.raises(SystemExit) as stop:
        load_script(path).main(["--help"])
    assert stop.value.code == 0
    assert f"python {relative(path)}" in capsys.readouterr().out, "no command in the docstring"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_a_script_has_the_contracts_flags(path, parser_of):
    code = path.read_text(encoding="utf-8")
    actions = {action.dest: action for action in parser_of(path)._actions}
    assert {"device", "dry_run"} <= actions.keys()
    if WRITES.search(code):
        assert {"seed", "out_dir"} <= actions.keys()
    for name, action in actions.items():
        assert action.help and not action.required
        assert action.option_strings and not any("-" in flag.lstrip("-") for flag in action.option_strings)
        assert name in EVERYWHERE or re.search(rf"\bargs\.{name}\b", code), f"--{name} is never used"


@pytest.fixture
def quick_figures(monkeypatch):
    """Let figures be written small, and not arranged: to find each text its place takes longest."""
    savefig = Figure.savefig

    def save(figure, *args, **options):
        figure.set_layout_engine("none")
        savefig(figure, *args, **{"dpi": 50} | options)

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture
def offline(tmp_path, monkeypatch, quick_processes, quick_figures):
    """No network, no data sets, and another working folder, which is returned."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    monkeypatch.setenv("DLFS_DATA", str(tmp_path / "no data sets"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return elsewhere


def dry_run(path, arguments, parser, out_dir):
    """Run a script with --dry_run; return the folder that it writes to, or None."""
    writes = parser.get_default("out_dir") is not None
    arguments = [*arguments, "--dry_run", "--device", "cpu", *(["--out_dir", str(out_dir)] if writes else [])]
    load_script(path).main(arguments)
    return out_dir if writes else None


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_a_dry_run_needs_nothing_and_touches_nothing(path, parser_of, tmp_path, offline):
    folders = [ROOT / path.relative_to(ROOT).parts[0], ROOT / "utils"]
    before = contents(folders)
    written = dry_run(path, [], parser_of(path), tmp_path / "out")
    assert contents(folders) == before, "a dry run wrote into the repository"
    assert not any(offline.iterdir()), "a dry run wrote into the working folder"
    assert not written or any(p.is_file() for p in written.rglob("*")), "--out_dir stayed empty"


def check_advice(error, parser):
    """See to it that every flag that a message names is one of the script's, and every value one that it takes."""
    for flag, value in ADVICE.findall(str(error)):
        assert flag in parser._option_string_actions, f"{flag}: {error}"
        if value:
            parser.parse_args([flag, value])


class LearnsError(Exception):
    """A script has got as far as a gradient, so all its data are there."""


@pytest.mark.parametrize(
    "path", [path for path in SCRIPTS if "args.data_root" in path.read_text(encoding="utf-8")], ids=relative
)
def test_without_its_data_a_script_says_what_works_instead(path, parser_of, tmp_path, offline, monkeypatch):
    """A dry run, as far as the first gradient, of the data set that is the default otherwise, for each task."""

    def stop(*args, **kwargs):
        raise LearnsError

    module, parser = load_script(path), parser_of(path)
    begin = module.begin

    def begin_for_real(parser, argv, dry_run):
        if not OFFLINE_SETS & dry_run.keys():
            pytest.skip("its dry run reads what any run reads")
        return begin(parser, argv, {name: value for name, value in dry_run.items() if name not in OFFLINE_SETS})

    monkeypatch.setattr(module, "begin", begin_for_real)
    monkeypatch.setattr("torch.Tensor.backward", stop)
    tasks = next((action.choices for action in parser._actions if action.dest == "task"), [None])
    for task in tasks:
        try:
            dry_run(path, ["--task", task] if task else [], parser, tmp_path / "out")
        except UserError as error:
            check_advice(error, parser)
        except LearnsError:
            pass


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_a_mistake_is_one_line_at_the_start(path, parser_of, tmp_path, offline, capsys):
    """A folder that cannot be made, a seed of 128 bits: said before anything is computed, whatever else is asked."""
    assert path.read_text(encoding="utf-8").endswith('if __name__ == "__main__":\n    run(main)\n')
    defaults = vars(parser_of(path).parse_args([]))
    (tmp_path / "file").touch()
    if "out_dir" in defaults:
        with pytest.raises(UserError, match="--out_dir") as error:
            load_script(path).main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path / "file" / "folder")])
        assert "\n" not in str(error.value)
    if "seed" in defaults:
        with pytest.raises(SystemExit) as stop:
            load_script(path).main(["--dry_run", "--device", "cpu", "--seed", str(2**127)])
        assert stop.value.code == 2 and "--seed" in capsys.readouterr().err


@pytest.mark.parametrize("depth", sorted({len(path.relative_to(ROOT).parts) for path in SCRIPTS}))
def test_a_script_starts_from_any_folder(depth, script, tmp_path):
    """One of each depth: that all begin with the same lines is seen to in test_architecture.py."""
    path = next(path for path in SCRIPTS if len(path.relative_to(ROOT).parts) == depth)
    done = script(relative(path), "--no_such_flag", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("unrecognized arguments: --no_such_flag")


def commands(text):
    """Yield (script, arguments) for every `python chapter_.../x.py ...` in a text, without comments and pipes."""
    for name, rest in COMMAND.findall(re.sub(r"\\\n\s*", " ", text)):
        words = shlex.shlex(rest, posix=True, punctuation_chars="|&;<>")
        words.whitespace_split = True
        yield name, list(itertools.takewhile(lambda word: not set(word) <= set("|&;<>"), words))


def test_commands_are_found_in_prose_and_blocks():
    text = "Run `python chapter_0/a.py --x 1`, or\npython chapter_0/b.py --y 'a > b' \\\n  -z > log  # 2 s\n"
    assert list(commands(text)) == [("chapter_0/a.py", ["--x", "1"]), ("chapter_0/b.py", ["--y", "a > b", "-z"])]


@pytest.mark.parametrize("source", READMES + SCRIPTS, ids=relative)
def test_quoted_commands_are_understood(source, parser_of):
    for name, arguments in commands(source.read_text(encoding="utf-8")):
        assert ROOT / name in SCRIPTS, f"there is no script {name}"
        if not {"-h", "--help"} & set(arguments):
            parser_of(ROOT / name).parse_args(arguments)


def printed_commands():
    """Every command of the READMEs that has flags, once: (script, arguments). In tables the folder is left out."""
    found = {}
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        found |= dict.fromkeys((name, tuple(arguments)) for name, arguments in commands(text))
        for name, flags in re.findall(r"`([\w/]+\.py) (--[^`.]+)`", text):
            if readme.parent / name in SCRIPTS:
                found[relative(readme.parent / name), tuple(shlex.split(flags))] = None
    return [(name, arguments) for name, arguments in found if arguments and arguments != ("--help",)]


@pytest.mark.parametrize(
    ("name", "arguments"),
    printed_commands(),
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60],
)
def test_printed_commands_have_dry_runs_too(name, arguments, parser_of, tmp_path, offline, monkeypatch):
    """One that names a file of the reader's, or a data set that is not there, ends by saying so."""
    monkeypatch.chdir(ROOT)
    shorter = itertools.chain(*(pair for pair in SHORT.items() if pair[0] in arguments))
    try:
        dry_run(ROOT / name, [*arguments, *shorter], parser_of(ROOT / name), tmp_path / "out")
    except UserError as error:
        missing = [word for word in arguments if Path(word).suffix and not (ROOT / word).exists()]
        assert any(word in str(error) for word in [*missing, "cannot download"]), f"{error}"
        check_advice(error, parser_of(ROOT / name))
