"""Write the lists of rooms in README.md and CONTRIBUTING.md: a sentence a folder, the first line of its `__init__`.

python docs/rooms.py
"""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
START, END = "<!-- rooms: written by docs/rooms.py -->\n", "<!-- end of rooms -->\n"


def sentence_of(folder: Path) -> str:
    """Return the first line of a package's docstring."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{folder}/__init__.py has no docstring, expected a sentence that says what the folder is")
    return docstring.splitlines()[0]


def list_of_rooms(*, depth: int) -> str:
    """Return one line of Markdown for each folder of the package, down to a depth."""
    package = REPOSITORY / "pipeline"
    lines = []
    for path in sorted(package.rglob("__init__.py")):
        level = len(path.parent.relative_to(package).parts)
        if 1 <= level <= depth:
            name = path.parent.relative_to(REPOSITORY).as_posix()
            lines.append(f"{'  ' * (level - 1)}- `{name}`: {sentence_of(path.parent)}\n")
    return "".join(lines)


def with_rooms(text: str, *, depth: int) -> str:
    """Return a document with the list between its two marks written anew."""
    before, rest = text.split(START)
    return before + START + list_of_rooms(depth=depth) + END + rest.split(END)[1]


DOCUMENTS = {"README.md": 1, "CONTRIBUTING.md": 3}

if __name__ == "__main__":
    for name, depth in DOCUMENTS.items():
        path = REPOSITORY / name
        path.write_text(with_rooms(path.read_text(encoding="utf-8"), depth=depth), encoding="utf-8")
