"""The house's style in numbers, over every file of the package and of ``benchmarks/``.

What stands under ``PENDING`` is over a bound today. Entries may go and numbers may fall, and an
entry that is not needed any more fails a test until it is taken off.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from house.counting import (
    PACKAGE,
    ROOT,
    SOCKET_PROTOCOL,
    Function,
    Module,
    arrows,
    circles,
    is_private,
    named_once,
    package,
    read,
    upward,
)

FILES = package(ROOT)
BENCHMARKS = read(ROOT / "benchmarks", ROOT)

MAX_FILE_LINES = 400
LONGER_FILES = {"errors.py": 500}  # one tree, in one file
MAX_FUNCTION_LINES = 80
P95_FUNCTION_LINES = 40
MAX_PARAMETERS = 7
MAX_IMPORTS = 12
MAX_NAMED_ONCE = 0.07
MAX_PROTOCOL_LINES = 110
RENAMING_LINES = 4

PENDING_FILE_LINES: dict[str, int] = {}
PENDING_IMPORTS = {
    "bench.engine.frames": 16,
    "bench.engine.other_kernels": 15,
    "bench.engine.stages": 14,
    "bench.recipes.kernels_gpu": 16,
    "cli.doctor": 14,
    "cli.models": 17,
    "engines.neutts.engine": 18,
    "engines.neutts.gguf.backbone": 15,
    "engines.neutts.loading": 18,
    "engines.neutts.torch_backbone": 14,
    "engines.piper.engine": 14,
    "engines.qwen3.agreement": 17,
    "engines.qwen3.batch": 16,
    "engines.qwen3.engine": 21,
    "engines.qwen3.frame_runner": 13,
    "engines.qwen3.fused": 13,
    "engines.qwen3.memory": 13,
    "engines.qwen3.model": 14,
    "engines.qwen3.prefill": 14,
    "serving.app": 26,
    "serving.server": 21,
    "speech.service": 19,
}
"""First-party imports of the files that have more than ``MAX_IMPORTS``."""
PENDING_NAMED_ONCE = 0.126
PENDING_PROTOCOL_LINES = 0
PENDING_EMPTY: set[str] = set()

PRINTING = ("cli/", "bench/recipes/")

BROAD_EXCEPT_ALLOWED = (
    "engines/watch.py",  # whatever an engine may raise, for whoever waits
    "engines/loop.py",  # whatever an engine may raise
    "speech/lifecycle.py",  # whatever an engine may raise when it is unloaded
    "runtime/worker_pool.py",  # whatever a job may raise, for whoever collects it
    "speech/cloning.py",  # whatever an engine may raise, for the caller of that thread
    "speech/pipeline.py",  # raised again to the consumer, in its turn
    "serving/",  # the boundary: every fault becomes an answer
)


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
    if module.lines > LONGER_FILES.get(module.path, MAX_FILE_LINES):
        yield f"{module.path} has {module.lines} lines"
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
        if called and node.func.id == "print" and not module.path.startswith(PRINTING):
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
    """Public functions, classes and their public methods; what overrides inherits its words."""
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if "override" in {name_of(each) for each in node.decorator_list}:
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


def name_of(node: ast.expr) -> str:
    """The last name of a chain of attributes; nothing for another expression."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


STOP_WORDS = set(
    """a an and are as at by for from get gets in is it its of on or return returns set sets that
    the this to what whether which with""".split()  # noqa: SIM905
)


def empty_docstrings(module: Module) -> Iterator[str]:
    """Docstrings of which nothing is left without the words of the names they stand under."""
    for above, node in defined(module.tree):
        text = ast.get_docstring(node)
        if text is None:
            continue
        names = words_of(node.name) | words_of(above)
        said = set(re.findall(r"[\w.]+\w|\w", text.lower())) - STOP_WORDS
        if all(any(alike(word, name) for name in names) for word in said):
            yield f"{module.path} {node.name}"


def defined(
    tree: ast.Module | ast.ClassDef | Function, above: str = ""
) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Functions and classes, each with the name of the class around it."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield above, node
            yield from defined(node, node.name if isinstance(node, ast.ClassDef) else above)


def words_of(name: str) -> set[str]:
    """The words in a name."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def alike(word: str, name: str) -> bool:
    """Whether two words differ in their endings alone: load, loads, loading."""
    shorter, longer = sorted((word, name), key=len)
    return longer == shorter or (
        len(shorter) > 2 and len(longer) - len(shorter) < 4 and longer.startswith(shorter[:-1])
    )


def renaming(modules: list[Module]) -> Iterator[str]:
    """Private functions that are called once and only give what they get another name."""
    for module, function in named_once(modules):
        body = function.body[ast.get_docstring(function) is not None :]
        called = re.search(rf"(?<!def )\b{function.name}\(", module.text)
        if (
            called
            and not function.decorator_list
            and lines(function) < RENAMING_LINES
            and only_passes_on(body)
        ):
            yield f"{module.path}:{function.lineno} {function.name}"


def only_passes_on(body: list[ast.stmt]) -> bool:
    """Whether all that is done is one name, attribute or call of names with names."""
    if len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr):
        return False
    value = body[0].value
    if isinstance(value, ast.Await):
        value = value.value
    if isinstance(value, ast.Call):
        given = [*value.args, *(each.value for each in value.keywords)]
        return is_chain(value.func) and bool(given) and all(map(is_chain, given))
    return is_chain(value)


def is_chain(node: ast.expr | None) -> bool:
    """``a``, ``a.b``, ``a.b.c``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


RULES = (too_long, too_many_parameters, unannotated, prints, broad_excepts, undocumented)
BENCHMARKS_RULES = (too_many_parameters, unannotated, broad_excepts)


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    assert FILES
    assert [complaint for module in FILES for complaint in rule(module)] == []


@pytest.mark.parametrize("rule", BENCHMARKS_RULES)
def test_the_benchmarks_keep_the_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    assert [complaint for module in BENCHMARKS for complaint in rule(module)] == []


def test_the_benchmarks_files_are_short() -> None:
    longer = {f"benchmarks/{each.path}": each.lines for each in BENCHMARKS}
    longer = {path: count for path, count in longer.items() if count > MAX_FILE_LINES}
    assert {
        path for path, count in longer.items() if count > PENDING_FILE_LINES.get(path, 0)
    } == set()
    assert PENDING_FILE_LINES.keys() <= longer.keys(), "take off what is not needed any more"


def test_functions_are_short() -> None:
    lengths = sorted(lines(function) for module in FILES for function in module.functions())
    assert lengths[int(len(lengths) * 0.95)] <= P95_FUNCTION_LINES


def test_docstrings_say_something() -> None:
    found = {complaint for module in FILES for complaint in empty_docstrings(module)}
    assert found == PENDING_EMPTY


def test_no_private_function_only_renames() -> None:
    assert list(renaming(FILES)) == []


def test_few_private_functions_are_named_once() -> None:
    functions = sum(1 for module in FILES for _ in module.functions())
    share = len(named_once(FILES)) / functions
    assert share <= max(MAX_NAMED_ONCE, PENDING_NAMED_ONCE)


GRAPH = arrows(FILES)


def test_no_file_imports_half_the_house() -> None:
    many = {
        name.removeprefix(f"{PACKAGE}."): len(targets)
        for name, targets in GRAPH.items()
        if len(targets) > MAX_IMPORTS
    }
    assert {
        name: count for name, count in many.items() if count > PENDING_IMPORTS.get(name, 0)
    } == {}
    assert PENDING_IMPORTS.keys() <= many.keys(), "take off what is not needed any more"


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(GRAPH) == []


def test_no_import_points_upward() -> None:
    assert upward(GRAPH, ROOT) == []


def test_a_protocol_is_fields_and_messages() -> None:
    count = sum(module.lines for module in FILES if module.path in SOCKET_PROTOCOL)
    assert 0 < count <= max(MAX_PROTOCOL_LINES, PENDING_PROTOCOL_LINES)


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
        (empty_docstrings, 'def load_model():\n    """Loads the model."""'),
        (empty_docstrings, 'class Stream:\n    """A stream."""'),
        (empty_docstrings, 'class Row:\n    def is_ready(self):\n        """Whether."""'),
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
    inherited = '"""D."""\nclass C(B):\n    """D."""\n    @override\n    def m(self) -> None: ...'
    assert list(undocumented(Module("text/x.py", inherited))) == []
    telling = 'def load():\n    """Load the weights."""\ndef f():\n    """As ``x.f``."""'
    assert list(empty_docstrings(Module("text/x.py", telling))) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("def f(x):\n    return _g(x)\ndef _g(y):\n    return y.name", ["x.py:3 _g"]),
        ("def f(x):\n    return _g(x)\ndef _g(y):\n    return h(y.name)", ["x.py:3 _g"]),
        ("def f(x):\n    return _g(x)\nasync def _g(y):\n    await y.close(x)", ["x.py:3 _g"]),
        ("def f(x):\n    return _g(x) + _g(x)\ndef _g(y):\n    return y.name", []),
        ("def f(x):\n    return _g(x)\ndef _g(y):\n    return y.name + 1", []),
        ("def f(x):\n    return map(_g, x)\ndef _g(y):\n    return y.name", []),
    ],
)
def test_renaming_is_seen(planted: str, found: list[str]) -> None:
    assert list(renaming([Module("x.py", planted)])) == found


def test_named_once_is_counted_over_all_files() -> None:
    modules = [
        Module("a.py", "def _one(): ...\ndef _two(): ...\n_one(), _two()"),
        Module("b.py", "from a import _two\ndef three(): ...\nthree()"),
    ]
    assert [function.name for _, function in named_once(modules)] == ["_one"]
    assert not is_private("__init__")


def test_arrows_circles_and_layers_are_seen(tmp_path: Path) -> None:
    files = {
        "__init__": "",
        "low": "def f():\n    from .high import y",
        "high": "import vivavoce.low\nfrom vivavoce import other, low",
        "other": "from vivavoce.low import x",
    }
    (tmp_path / "src" / PACKAGE).mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "src" / PACKAGE / f"{name}.py").write_text(text)
    layers = '"vivavoce.high", "vivavoce.low | vivavoce.other"'
    (tmp_path / "pyproject.toml").write_text(
        f'[[tool.importlinter.contracts]]\nname = "n"\ntype = "layers"\nlayers = [{layers}]'
    )
    graph = arrows(package(tmp_path))
    assert graph["vivavoce.high"] == {"vivavoce.low", "vivavoce.other"}
    assert circles(graph) == [["vivavoce.high", "vivavoce.low", "vivavoce.other"]]
    assert upward(graph, tmp_path) == [
        "vivavoce.low -> vivavoce.high",
        "vivavoce.other -> vivavoce.low",
    ]
