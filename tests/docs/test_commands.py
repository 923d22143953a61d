"""Every command line on a page is one that its parser takes: no page names an option that does not exist."""

import argparse
import functools
import importlib.util
import re
import runpy
import shlex
from pathlib import Path

import pytest

pytest.importorskip("markdown_it")
pytest.importorskip("torch")
HERE = Path(__file__).resolve().parent
pages = runpy.run_path(str(HERE / "pages.py"))
parsers = runpy.run_path(str(pages["ROOT"] / "docs" / "parsers.py"))

WITH_PARSER = {*parsers["modules_with_parser"](), *parsers["NAMED"]}
SHELLS = ("", "sh", "bash", "console", "shell")
BEFORE = re.compile(r"[A-Za-z_]+=.*|-.*|\d+|sudo|nice|time|taskset|timeout|torchrun|(.*/)?python[\d.]*")
STARTS = ("irvis", "build_engine.py", "bench.py")
SEPARATORS = re.compile(r"[;&|()<>]+")
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*")  # such as N, which no number is


def command_lines(text):
    """Return our commands in lines of shell, each by itself, without what stands around it."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = re.sub(r"^\s*[$#] ", "", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        try:
            words = list(lexer)
        except ValueError:  # an apostrophe of a sentence: no command
            continue
        command = []
        for word in [*words, ";"]:
            if not SEPARATORS.fullmatch(word):
                command.append(word)
                continue
            yield from ours(command)
            command = ["redirected", "to"] if set(word) & set("<>") else []


def ours(words):
    """Return a command from where it is ours: its name, then its arguments; nothing where it is not."""
    for index, word in enumerate(words):
        name = word.rpartition("/")[2]
        if name in STARTS:
            yield [name, *words[index + 1 :]]
            return
        if word == "-m" and words[index + 1 : index + 2] and words[index + 1].startswith("irvis."):
            module, arguments = words[index + 1], words[index + 2 :]
            yield ["irvis", *arguments] if module == "irvis.runtime.cli" else [module, *arguments]
            return
        if not BEFORE.fullmatch(word):
            return


@functools.lru_cache(maxsize=None)
def parser_of(name, first):
    """Return the parser of a command by its name and its first argument, and whether that is part of the name."""
    if name == "irvis":
        parser, named = parsers["cli"].make_parser(first), True
    elif name == "bench.py":
        named = first in parsers["bench"].COMMANDS
        parser = parsers["bench"].make_parser(first if named else None)
    elif name == "build_engine.py":
        parser, named = parsers["build_engine"].make_parser(), False
    else:
        package = f"{name}.__main__" in WITH_PARSER
        parser, named = parsers["module_parser"](f"{name}.__main__" if package else name), False
    for each in [parser, *parsers["subcommands"](parser).values()]:
        each.allow_abbrev = False
        each.error = refuse
        for action in each._actions:
            action.type = tolerant(action.type)
    return parser, named


def refuse(message):
    raise ValueError(message)


def tolerant(convert):
    """Take placeholders where a number or a size would be."""
    return lambda text: text if convert is None or PLACEHOLDER.fullmatch(text) else convert(text)


def complaint(words, whole):
    """Say what is wrong with a command, or give None. One that is not whole has options alone, which must exist."""
    name, first = words[0], (words[1:2] or [None])[0]
    if name == "irvis" and (first in (None, "--version", "--help", "...") or PLACEHOLDER.fullmatch(first)):
        return None
    if name == "irvis" and first not in parsers["cli"].SUBCOMMANDS:
        return f"no subcommand {first}"
    if name.startswith("irvis.") and not {name, f"{name}.__main__"} & WITH_PARSER:  # it takes no options
        return None if importlib.util.find_spec(name) else f"no module {name}"
    parser, named = parser_of(name, first)
    arguments = words[2:] if named else words[1:]
    if whole and not {"--help", "-h"} & set(arguments):
        try:
            parser.parse_args(arguments)
        except (ValueError, argparse.ArgumentTypeError) as error:
            return str(error)
        return None
    known = set()
    for each in [parser, *parsers["subcommands"](parser).values()]:
        known.update(each._option_string_actions)
    options = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)]
    return next((f"no option {option}" for option in options if option not in known), None)


def found_in(page):
    """Return each command on a page, where it stands, and whether it should be whole."""
    for block in pages["blocks"](page):
        if block.kind in SHELLS:
            for words in command_lines(block.text):
                yield block.place, words, not any("..." in word or "$" in word for word in words)
    for code in pages["codes"](page):
        for words in command_lines(code.text.replace("\n", " ")):
            yield code.place, words, False


@pytest.mark.parametrize("page", pages["PAGES"], ids=lambda page: str(page.relative_to(pages["ROOT"])))
def test_each_command_is_one_that_its_parser_takes(page):
    wrong = []
    for place, words, whole in found_in(page):
        said = complaint(words, whole)
        if said is not None:
            wrong.append(f"{place}: {shlex.join(words)}: {said}")
    assert wrong == []


def test_commands_are_found_where_people_write_them():
    text = """
    $ irvis samples scenes   # a comment
    sudo nvpmodel -m 0 && OMP_NUM_THREADS=1 nice python3 -m irvis.benchmarks.loop_cost --frames 6 | tail -1
    irvis fuse a b \\
        -o c > log.txt; export/build_engine.py --fp32
    torchrun --nproc-per-node 4 -m irvis.runtime.cli train MSRS/train
    pip install irvis
    """
    assert list(command_lines(text)) == [
        ["irvis", "samples", "scenes"],
        ["irvis.benchmarks.loop_cost", "--frames", "6"],
        ["irvis", "fuse", "a", "b", "-o", "c"],
        ["build_engine.py", "--fp32"],
        ["irvis", "train", "MSRS/train"],
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("irvis paint", "no subcommand paint"),
        ("irvis fuse a b -o c --zoom 2", "unrecognized arguments: --zoom 2"),
        ("irvis fuse a b", "the following arguments are required: -o/--output"),
        ("irvis samples scenes --si 96x128", "unrecognized arguments: --si 96x128"),
        ("irvis train MSRS/train --steps many", "argument --steps: invalid"),
        ("bench.py --mode MAXN --rate often", "argument --rate: must be frames a second"),
        ("python -m irvis.benchmarks.soak jump", "argument command: invalid choice"),
    ],
)
def test_what_a_parser_refuses_is_found(command, said):
    (words,) = command_lines(command)
    assert (complaint(words, True) or "").startswith(said)


def test_an_option_in_passing_is_held_against_the_parser_too():
    assert complaint(["irvis", "run", "--registration", "FILE"], False) is None
    assert complaint(["irvis", "run", "--registry", "FILE"], False) == "no option --registry"
