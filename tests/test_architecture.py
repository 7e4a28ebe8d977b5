"""The house: what lies on top, which way the doors open, and which Python it needs."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {
    "main.py", "gen_samples.py", "degrade.py", "srcnn.py", "esrgan.py",
    "lessons", "images_raw", "models", "tests", "tools", "imaging", "engine", "web",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml",
}  # fmt: skip
# A room imports from itself and from these. What is not named here is not the project's.
DOORS = {
    "imaging": set(),
    "srcnn": set(),
    "esrgan": set(),
    "degrade": {"imaging"},
    "engine": {"imaging", "srcnn", "esrgan", "degrade"},
    "gen_samples": {"imaging", "engine"},
    "main": {"imaging", "engine", "gen_samples", "degrade", "srcnn", "esrgan"},
    "lessons": {"imaging", "engine", "gen_samples", "degrade", "srcnn", "esrgan"},
}


def modules() -> dict[str, Path]:
    """Dotted name → file of every module of the project but tests and tools."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("imaging/*.py"), *ROOT.glob("engine/*.py"), *ROOT.glob("lessons/*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imports() -> dict[str, set[str]]:
    """Module → the project's modules that it imports, wherever in the file."""
    known = modules()
    graph = {}
    for name, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        graph[name] = {one for one in found if one in known}
    return graph


def test_doors_open_downward_only():
    for name, found in imports().items():
        room = name.split(".")[0]
        through = {one.split(".")[0] for one in found} - {room}
        assert through <= DOORS[room], f"{name} imports from {through - DOORS[room]}, which lies above it"


def test_there_is_no_circle():
    try:
        list(TopologicalSorter(imports()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")


def test_the_top_level_is_as_it_was_drawn():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in listed.stdout.splitlines()}
    assert {name for name in top - TOP if not re.match(r"\.|requirements[a-z-]*\.txt", name)} == set()


@pytest.mark.parametrize("script", ["main.py", "gen_samples.py", "degrade.py"])
def test_an_older_python_is_told_in_one_line(script, tmp_path):
    """The check comes before anything that an older Python cannot read; only the version is made up here."""
    text = (ROOT / script).read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 9))  # else a syntax error would come first
    old = "import sys\nsys.version_info = (3, 10, 0)\n"
    (tmp_path / "old.py").write_text(old + text, encoding="utf-8")
    finished = subprocess.run([sys.executable, tmp_path / "old.py"], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == "error: needs Python 3.11 or newer; see Start in README.md\n"


def test_help_imports_nothing_that_has_to_be_installed():
    """Who has not installed anything yet gets the help, and one line for the rest."""
    alone = [sys.executable, "-S", "-I", "-c"]  # without site-packages
    enter = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import main; sys.exit(main.main(%s))"
    helped = subprocess.run([*alone, enter % ["train", "--help"]], capture_output=True, text=True, check=False)
    assert helped.returncode == 0 and "usage:" in helped.stdout
    told = subprocess.run([*alone, enter % ["evaluate", "-i", "x"]], capture_output=True, text=True, check=False)
    assert told.returncode == 1 and re.fullmatch(r"error: \w+ is not installed here: .*README.md\n", told.stderr)


SCRIPTS = [path for path in modules().values() if "__main__" in path.read_text(encoding="utf-8")]
SCRIPTS += [*(ROOT / "tools").glob("*.py"), *(ROOT / "lessons").glob("[0-9]*.py")]
HELPERS = ("main.py", "peers.py", "plain.py")
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in SCRIPTS if path.name not in HELPERS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_not_installed_is_told_in_one_line(script):
    """`-S`: without site-packages, as where .venv is not active. main.py, which imports late, is tested above."""
    told = subprocess.run([sys.executable, "-S", ROOT / script], capture_output=True, text=True, check=False)
    assert told.returncode == 1 and re.fullmatch(r"error: \w+ is not installed here: .*README.md\n", told.stderr)
