"""What a notebook was made from besides its lesson: the parts of modules that the lesson shows, and shipped weights.

Of a module it is the functions, classes and constants that the lesson names, without their comments and docstrings: a
notebook is out of date when one of these computes something else, or when weights that it uses are others.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "models" / "pretrained"
ROOMS = (ROOT, ROOT / "lessons")


def digest(script: Path) -> str:
    """A number that changes when what this lesson shows and uses does."""
    parts = [f"{name} {code}" for name, code in sorted(named_code(script))]
    parts += [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in used_weights(script)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def used_weights(script: Path) -> list[Path]:
    """The shipped files that a lesson may open: those of the kinds that it names in quotes."""
    text = script.read_text(encoding="utf-8")
    found = []
    for path in sorted(SHIPPED.glob("*.pt*")):
        model, _, degradation = re.sub(r"_x\d$", "", path.stem).partition("-")
        kind = f'"{model}"' in text and (not degradation or f'"{degradation}"' in text)
        if path.stem in text or (path.suffix == ".pt" and kind) or (path.stem == "small_vgg19" and '"small"' in text):
            found.append(path)
    return found


def named_code(script: Path) -> Iterator[tuple[str, str]]:
    """(module.name, its code) of all that a lesson names in the project's modules."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    used: dict[Path, set[str]] = {}
    modules: dict[str, Path] = {}  # what the lesson calls them
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if path := _file(alias.name):
                    modules[alias.asname or alias.name] = path
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if path := _file(f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = path
                elif path := _file(node.module):
                    used.setdefault(path, set()).add(alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            used.setdefault(modules[node.value.id], set()).add(node.attr)
    for path, names in used.items():
        yield from _definitions(path, names)


def _file(module: str) -> Path | None:
    """The file of one of the project's modules; None for others, and for what only runs the lessons."""
    if module in ("checks", "course", "predictions"):
        return None
    paths = [room / Path(*module.split(".")).with_suffix(".py") for room in ROOMS]
    return next((path for path in paths if path.exists()), None)


def _definitions(path: Path, names: set[str]) -> Iterator[tuple[str, str]]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        own = {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own = {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        if own & names:
            yield f"{path.stem}.{min(own & names)}", ast.dump(_without_docstrings(node))


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
