"""The house's style in numbers, over every file of the package."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "vivavoce"
FILES = sorted(SOURCE.rglob("*.py"))

MAX_FILE_LINES = 400
LONGER_FILES = {"errors.py": 500}  # one tree, in one file
MAX_FUNCTION_LINES = 80
P95_FUNCTION_LINES = 40
MAX_PARAMETERS = 7

BROAD_EXCEPT_ALLOWED = (
    "engines/watch.py",  # whatever an engine may raise, for whoever waits
    "engines/loop.py",  # whatever an engine may raise
    "speech/lifecycle.py",  # whatever an engine may raise when it is unloaded
    "runtime/worker_pool.py",  # whatever a job may raise, for whoever collects it
    "speech/cloning.py",  # whatever an engine may raise, for the caller of that thread
    "speech/pipeline.py",  # raised again to the consumer, in its turn
    "serving/",  # the boundary: every fault becomes an answer
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file: ``path`` relative to the package."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def read(file: Path) -> Module:
    return Module(str(file.relative_to(SOURCE)), file.read_text(encoding="utf-8"))


def lines(function: Function) -> int:
    """Length without decorators and docstring."""
    body = function.body
    start = function.lineno
    if ast.get_docstring(function) is not None:
        text = body[0]
        return (
            (function.end_lineno or start) - start + 1 - ((text.end_lineno or 0) - text.lineno + 1)
        )
    return (function.end_lineno or start) - start + 1


def parameters(function: Function) -> list[ast.arg]:
    """Named parameters, without self and cls."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [each for each in named if each.arg not in ("self", "cls")]


def too_long(module: Module) -> Iterator[str]:
    count = module.text.count("\n")
    if count > LONGER_FILES.get(module.path, MAX_FILE_LINES):
        yield f"{module.path} has {count} lines"
    for function in module.functions():
        if lines(function) > MAX_FUNCTION_LINES and not is_command(module, function):
            yield f"{module.path}:{function.lineno} {function.name} has {lines(function)} lines"


def too_many_parameters(module: Module) -> Iterator[str]:
    for function in module.functions():
        count = len(parameters(function))
        if count > MAX_PARAMETERS and not is_command(module, function):
            yield f"{module.path}:{function.lineno} {function.name} has {count} parameters"


def unannotated(module: Module) -> Iterator[str]:
    for function in module.functions():
        rest = [each for each in (function.args.vararg, function.args.kwarg) if each is not None]
        bare = [each.arg for each in (*parameters(function), *rest) if each.annotation is None]
        returns = function.returns is not None or function.name == "__init__"
        if bare or not returns:
            yield f"{module.path}:{function.lineno} {function.name} lacks annotations {bare}"


def prints(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if called and node.func.id == "print" and not module.path.startswith("cli/"):
            yield f"{module.path}:{node.lineno} prints"


def broad_excepts(module: Module) -> Iterator[str]:
    if module.path.startswith(BROAD_EXCEPT_ALLOWED):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node) and not raises_again(node):
            yield f"{module.path}:{node.lineno} catches everything"


def undocumented(module: Module) -> Iterator[str]:
    if module.text.strip() and ast.get_docstring(module.tree) is None:
        yield f"{module.path} has no docstring"
    for name, node in public(module.tree):
        if ast.get_docstring(node) is None:
            yield f"{module.path}:{node.lineno} {name} has no docstring"


def public(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions, classes and their public methods."""
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public(node)


def is_command(module: Module, function: Function) -> bool:
    """A command of the program: its parameters are its options."""
    return module.path == f"cli/{function.name}.py"


def is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = ast.walk(handler.type) if handler.type is not None else ()
    names = {node.id for node in kinds if isinstance(node, ast.Name)}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether it ends in ``raise``, or in ``raise … from`` what was caught."""
    last = handler.body[-1]
    if not isinstance(last, ast.Raise):
        return False
    named = isinstance(last.cause, ast.Name) and last.cause.id == handler.name
    return last.exc is None or named


RULES = (too_long, too_many_parameters, unannotated, prints, broad_excepts, undocumented)


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    assert FILES
    assert [complaint for file in FILES for complaint in rule(read(file))] == []


def test_functions_are_short() -> None:
    lengths = sorted(lines(function) for file in FILES for function in read(file).functions())
    assert lengths[int(len(lengths) * 0.95)] <= P95_FUNCTION_LINES
    assert lengths[len(lengths) // 2] < 10


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        (too_long, "\n" * 401),
        (too_long, "def f() -> None:\n" + "    x = 1\n" * 81),
        (
            too_many_parameters,
            "def f(a: int, b: int, c: int, d: int, e: int, *, f: int, g: int, h: int): ...",
        ),
        (unannotated, "def f(a) -> None: ..."),
        (unannotated, "def f(*a) -> None: ..."),
        (unannotated, "def f(): ..."),
        (prints, "print('x')"),
        (broad_excepts, "try: ...\nexcept Exception: ..."),
        (broad_excepts, "try: ...\nexcept (OSError, BaseException): ..."),
        (broad_excepts, "try: ...\nexcept: ..."),
        (broad_excepts, "try: ...\nexcept Exception:\n    raise ValueError from None"),
        (undocumented, "x = 1"),
        (undocumented, '"""Doc."""\ndef f() -> None: ...'),
        (undocumented, '"""Doc."""\nclass C:\n    """Doc."""\n    def m(self) -> None: ...'),
    ],
)
def test_each_rule_finds_what_it_is_for(
    rule: Callable[[Module], Iterator[str]], planted: str
) -> None:
    assert len(list(rule(Module("text/planted.py", planted)))) == 1


def test_what_the_rules_permit() -> None:
    again = Module("text/x.py", "try: ...\nexcept BaseException:\n    raise")
    assert list(broad_excepts(again)) == []
    other = Module("text/x.py", "try: ...\nexcept Exception as e:\n    raise ValueError from e")
    assert list(broad_excepts(other)) == []
    assert list(prints(Module("cli/x.py", "print('x')"))) == []
