"""What check_layers, check_sizes and check_names share: the sources, the self-test, the command line."""

import pathlib
import sys
import tempfile

SOURCES = {".h", ".cc", ".cu", ".cuh"}


def sources(root, tops, suffixes=frozenset(SOURCES)):
    """Every source below the folders `tops` of root, in order."""
    for top in tops:
        yield from sorted(path for path in (root / top).rglob("*") if path.suffix in suffixes)


def self_test(check, clean, faults):
    """What is wrong with a check: [] when it passes the tree `clean` and finds every fault.

    A tree is {path: text}. A fault is (files put into the clean tree, a word that the complaint must
    contain, further arguments of the check).
    """

    def run(files, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return check(root.resolve(), *arguments)

    failures = [f"the clean tree was refused: {problem}" for problem in run(clean)]
    for files, expected, *arguments in faults:
        problems = run({**clean, **files}, *arguments)
        if not any(expected in problem for problem in problems):
            failures.append(f"{list(files)}: expected '{expected}', got {problems}")
    return failures


def main(check, clean, faults, praise):
    """`script [ROOT]` prints what check(root) complains of; `script --self-test` tests the check."""
    name = pathlib.Path(sys.argv[0]).name
    if sys.argv[1:] == ["--self-test"]:
        problems = [f"{name} self-test: {failure}" for failure in self_test(check, clean, faults)]
        praise = f"self-test: {len(faults)} faults found, the clean tree passes"
    else:
        problems = check(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                                      pathlib.Path(__file__).parent.parent).resolve())
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{name}: {praise}")
    return 1 if problems else 0
