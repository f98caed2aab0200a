"""The house keeps its order: imports flow one way, files stay short, nothing prints or unpickles."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "plaudit"

ROWS = [
    {"cli", "zoo", "serve", "app", "testing"},  # what people touch
    {"auditing", "watch"},  # is the reward right? is it still right?
    {"optimize", "adapters"},  # reward -> policy, and the tools that people already run
    {"learn", "shape", "specify"},  # feedback -> reward, reward -> reward, words and code -> reward
    {"feedback", "tasks"},  # evidence of what is wanted, where episodes come from
    {"core"},
]
WITHIN_A_ROW = {
    ("cli", "zoo"), ("cli", "serve"), ("cli", "app"),
    ("auditing", "watch"),
    ("learn", "shape"), ("shape", "specify"), ("learn", "specify"),
    ("feedback", "tasks"),
}
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
LONGEST_FILE = 500
TOML = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = TOML["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
UNPICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
HEAVY = {"accelerate", "datasets", "fastapi", "h5py", "httpx", "matplotlib", "minari", "minigrid", "mujoco", "peft",
         "pyarrow", "rich", "scipy", "stable_baselines3", "tensorboard", "tokenizers", "transformers", "trl", "tyro",
         "uvicorn"}


def files() -> Iterator[tuple[str, str]]:
    """Each source file as (its path below src/plaudit, its text)."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")


@functools.cache
def parsed(text: str) -> ast.Module:
    """The tree of a source; every rule reads the same one."""
    return ast.parse(text)


@functools.cache
def nodes_of(text: str) -> tuple[ast.AST, ...]:
    """All nodes of that tree."""
    return tuple(ast.walk(parsed(text)))


def room_of(path: str) -> str:
    return path.split("/")[0] if "/" in path else ""


@functools.cache
def front_door() -> dict[str, str]:
    """The names of `plaudit` itself, and the room that each comes from."""
    for node in nodes_of((SOURCE / "__init__.py").read_text(encoding="utf-8")):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOME":
            return {name: home.split(".")[0] for name, home in ast.literal_eval(node.value).items()}
    raise AssertionError("src/plaudit/__init__.py has no _HOME")


def imported_modules(nodes: Iterable[ast.AST], path: str) -> Iterator[tuple[int, str]]:
    """Every module that is named by an import, wherever it stands, as (line, dotted name)."""
    package = ["plaudit", *path.split("/")[:-1]]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if called_name(node).split(".")[-1] in {"import_module", "__import__"}:
                yield node.lineno, str(node.args[0].value)


def called_name(call: ast.Call) -> str:
    """`torch.load` for `torch.load(...)`; empty where the thing called has no plain name."""
    parts: list[str] = []
    node: ast.expr = call.func
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def wrong_imports(path: str, text: str) -> list[str]:
    """Imports that run against the direction of the house."""
    here, doors, wrong = room_of(path), front_door(), []
    if not here:
        return []
    if here not in LEVEL:
        return [f"{path}: {here} is no room of the house"]
    for line, module in imported_modules(nodes_of(text), path):
        parts = module.split(".")
        if parts[0] != "plaudit" or parts[1:] == ["__version__"]:
            continue
        if len(parts) == 1:
            wrong.append(f"{path}:{line}: import from the room that holds the name, not from plaudit itself")
            continue
        there = parts[1] if parts[1] in LEVEL else doors.get(parts[1], parts[1])
        allowed = there == here or LEVEL.get(there, -1) > LEVEL[here] or (here, there) in WITHIN_A_ROW
        if not allowed:
            wrong.append(f"{path}:{line}: {here} must not import from {there}")
    return wrong


def too_long(path: str, text: str) -> list[str]:
    """Files that hold more than one idea."""
    n = text.count("\n")
    return [f"{path}: {n} lines, at most {LONGEST_FILE}; it holds two ideas"] if n > LONGEST_FILE else []


def undocumented(path: str, text: str) -> list[str]:
    """Public functions and classes without a docstring, and modules without one."""
    tree = parsed(text)
    wrong = [] if ast.get_docstring(tree) or not tree.body else [f"{path}:1: the module has no docstring"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            variant = any(getattr(d, "id", "") == "overload" for d in node.decorator_list)
            if not variant and not ast.get_docstring(node):
                wrong.append(f"{path}:{node.lineno}: {node.name} has no docstring")
    return wrong


def prints(path: str, text: str) -> list[str]:
    """Calls of print outside the command line."""
    calls = (n for n in nodes_of(text) if isinstance(n, ast.Call))
    return [] if room_of(path) == "cli" else [f"{path}:{c.lineno}: print" for c in calls if called_name(c) == "print"]


def unsafe(path: str, text: str) -> list[str]:
    """Whatever could run or unpickle what a stranger wrote."""
    wrong = [f"{path}:{line}: imports {module}" for line, module in imported_modules(nodes_of(text), path)
             if module.split(".")[0] in UNPICKLING]
    for node in nodes_of(text):
        if not isinstance(node, ast.Call):
            continue
        name = called_name(node)
        pickled = any(k.arg == "allow_pickle" and getattr(k.value, "value", None) is not False for k in node.keywords)
        if name in {"exec", "eval", "torch.load", "yaml.load"} or pickled:
            wrong.append(f"{path}:{node.lineno}: {name}")
    return wrong


def heavy_at_the_top(path: str, text: str) -> list[str]:
    """Heavy packages that are imported when a module is, instead of where they are used."""
    if room_of(path) == "cli":
        return []
    return [f"{path}:{line}: import {module} inside the function that needs it"
            for node in parsed(text).body if isinstance(node, ast.Import | ast.ImportFrom)
            for line, module in imported_modules([node], path) if module.split(".")[0] in HEAVY]


def names_of(requirements: list[str]) -> set[str]:
    """The import names of requirements such as `gymnasium[mujoco]>=1.1`."""
    names = {re.split(r"[\[<>=!~; ]", r)[0].lower().replace("-", "_") for r in requirements}
    return {{"pillow": "pil"}.get(name, name) for name in names}


def undeclared(path: str, text: str) -> list[str]:
    """Packages that pyproject.toml does not promise, and `require(..., extra=...)` with an extra that lacks them."""
    base, wrong = names_of(PROJECT["dependencies"]), list[str]()
    for line, module in imported_modules(nodes_of(text), path):
        package = module.split(".")[0]
        if package not in {"plaudit", *sys.stdlib_module_names} and package.lower() not in base:
            wrong.append(f"{path}:{line}: {package} is no dependency; use plaudit.core.extras.require")
    for node in nodes_of(text):
        if isinstance(node, ast.Call) and called_name(node) == "require" and node.keywords:
            extra = getattr(node.keywords[0].value, "value", None)
            if extra not in EXTRAS or extra == "dev":
                wrong.append(f"{path}:{node.lineno}: pyproject.toml has no extra {extra!r} for users")
            elif isinstance(node.args[0], ast.Constant):
                package = str(node.args[0].value).split(".")[0]
                if package not in names_of(EXTRAS[str(extra)]) | set(sys.stdlib_module_names):
                    wrong.append(f"{path}:{node.lineno}: the extra {extra!r} does not install {package}")
    return wrong


RULES: dict[Callable[[str, str], list[str]], list[tuple[str, str]]] = {
    wrong_imports: [
        ("core/x.py", "from plaudit.tasks.base import Task"),
        ("core/x.py", "def f():\n    from plaudit.optimize import rl"),
        ("tasks/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import plaudit.auditing.report"),
        ("tasks/x.py", "from ..zoo import run"),
        ("tasks/x.py", "import importlib\nimportlib.import_module('plaudit.watch')"),
        ("optimize/x.py", "from plaudit import audit"),
        ("optimize/x.py", "import plaudit"),
        ("zoo/x.py", "from plaudit.cli import main"),
        ("watch/x.py", "from plaudit.auditing import audit"),
        ("specify/x.py", "from plaudit.learn import model"),
        ("attic/x.py", ""),
    ],
    too_long: [("core/x.py", "x = 1\n" * (LONGEST_FILE + 1))],
    undocumented: [
        ("core/x.py", "x = 1"),
        ("core/x.py", '"""Doc."""\ndef f(): ...'),
        ("core/x.py", '"""Doc."""\nclass C:\n    x = 1'),
    ],
    prints: [("core/x.py", "def f():\n    print('hello')")],
    unsafe: [
        ("core/x.py", "import pickle"),
        ("core/x.py", "from cloudpickle import loads"),
        ("core/x.py", "torch.load('x', weights_only=True)"),
        ("core/x.py", "np.load('x', allow_pickle=True)"),
        ("core/x.py", "exec('1')"),
        ("core/x.py", "y = eval('1')"),
    ],
    undeclared: [
        ("core/x.py", "import requests"),
        ("core/x.py", "require('mujoco', extra='robots')"),
        ("core/x.py", "require('pytest', extra='dev')"),
        ("core/x.py", "require('mujoco', extra='sb3')"),
    ],
    heavy_at_the_top: [("core/x.py", "from scipy import stats"), ("watch/x.py", "import matplotlib.pyplot as plt")],
}
INNOCENT = '''"""A module."""
from plaudit import __version__
from plaudit.core.episodes import Episodes

def f(model: "torch.nn.Module") -> None:
    """Does what is allowed."""
    from scipy import stats

    model.eval()
    console.print(stats, __version__)


@overload
def g(x: int) -> int: ...
'''


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_the_house_keeps_the_rule(rule: Callable[[str, str], list[str]]) -> None:
    wrong = [w for path, text in files() for w in rule(path, text)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("rule, path, text", [(r, p, t) for r, planted in RULES.items() for p, t in planted],
                         ids=lambda x: getattr(x, "__name__", None))
def test_a_planted_violation_is_found(rule: Callable[[str, str], list[str]], path: str, text: str) -> None:
    assert rule(path, text)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_an_innocent_file_is_left_alone(rule: Callable[[str, str], list[str]]) -> None:
    assert rule("optimize/x.py", INNOCENT) == []


@pytest.mark.parametrize("path, module", [("cli/x.py", "zoo"), ("auditing/x.py", "watch"), ("learn/x.py", "shape"),
                                          ("shape/x.py", "specify"), ("feedback/x.py", "tasks"), ("zoo/x.py", "core")])
def test_the_few_edges_inside_a_row_are_open(path: str, module: str) -> None:
    assert wrong_imports(path, f"import plaudit.{module}.y") == []


def test_the_table_in_the_contributor_guide_is_this_table() -> None:
    guide = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = re.search(r"```text\n(cli .*?)```", guide, re.DOTALL)
    assert drawn is not None
    rows = [set(re.split(r" · ", re.split(r"\s{2,}", line)[0])) for line in drawn[1].strip().splitlines()]
    assert rows == ROWS


def test_an_undefined_name_is_an_error_to_one_of_the_linters_everywhere():
    """Ruff takes the axis "B" of a shape for a name, so pyright has to see them in src, and ruff outside of it."""
    pyright, lint = TOML["tool"]["pyright"], TOML["tool"]["ruff"]["lint"]
    assert pyright["reportUndefinedVariable"] == "error" and pyright["include"] == ["src"]
    assert "F821" not in lint["ignore"] and [at for at, off in lint["per-file-ignores"].items() if "F821" in off] == [
        "src/**"]
