"""Breaks copies of the product on purpose, as mutants.txt says, and counts what no test notices.

python tests/mutants.py [WORD...]: mutants in whose name or file one of the words is, or all. The copy, with a
build of its own, is kept in build/mutants. Exit status 1 if one lives, does not apply or does not compile.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "mutants" / "tree"
BUILD = ROOT / "build" / "mutants" / "build"
SITE = ROOT / "build" / "mutants" / "site"
BIN = Path(sys.executable).parent
SECONDS = 300  # a test that takes longer hangs

# Python must find the copy, not the editable install.
SITECUSTOMIZE = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Mesonpy" not in type(finder).__name__]
sys.path.insert(0, {str(TREE)!r})
"""


@dataclass(frozen=True)
class Mutant:
    """One change of one place. tests: arguments of pytest; pending: why nothing sees it yet."""

    file: str
    name: str
    tests: str
    old: str
    new: str
    pending: str


def read_mutants(text: str) -> list[Mutant]:
    """The mutants that mutants.txt describes."""
    tests: dict[str, str] = {}
    file, mutants = "", []
    for block in re.split(r"\n{2,}", text):
        if block.startswith("== "):
            file = block.removeprefix("== ").strip()
        elif set_ := re.findall(r"^([A-Z]+) = (.*)$", block, re.MULTILINE):
            tests.update(set_)
        elif not block.startswith("#"):
            head, *lines = block.splitlines()
            match = re.fullmatch(r"(.*), ([A-Z]+)(?: \(pending: (.*)\))?", head)
            assert match, head
            old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
            mutants.append(Mutant(file, match[1], tests[match[2]], old, new, match[3] or ""))
    return mutants


def copy_tree() -> None:
    """Bring the copy up to date; files that have not changed keep their times, so little is built anew."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    for path in [path for path in TREE.rglob("*") if path.is_file()]:
        if str(path.relative_to(TREE)) not in names and path.suffix != ".so":
            path.unlink()
    for name in names:
        new = (ROOT / name).read_bytes()
        if not (TREE / name).is_file() or (TREE / name).read_bytes() != new:
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            (TREE / name).write_bytes(new)
    SITE.mkdir(parents=True, exist_ok=True)
    (SITE / "sitecustomize.py").write_text(SITECUSTOMIZE)


def build() -> bool:
    """Compile the copy; whether that worked."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    if not (BUILD / "build.ninja").is_file():
        setup = ["meson", "setup", str(BUILD), str(TREE), "-Dbuildtype=release"]
        subprocess.run(setup, env=environment, check=True, stdout=subprocess.DEVNULL)
    made = subprocess.run(
        ["ninja", "-C", str(BUILD), "_kernels.abi3.so"], env=environment, stdout=subprocess.DEVNULL
    )
    if made.returncode == 0:
        (TREE / "ggufpy" / "_kernels.abi3.so").unlink(missing_ok=True)  # it may be mapped
        shutil.copy(BUILD / "_kernels.abi3.so", TREE / "ggufpy" / "_kernels.abi3.so")
    return made.returncode == 0


def tests_pass(arguments: list[str]) -> bool | None:
    """Whether tests of the copy pass; None if there were none to run."""
    environment = os.environ | {"PYTHONPATH": str(SITE), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    try:
        done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode in (4, 5):  # wrong arguments, nothing selected
        sys.stdout.buffer.write(done.stdout + done.stderr)
        return None
    return done.returncode == 0


def try_mutant(mutant: Mutant) -> str:
    """What became of it: "killed", or why not."""
    path = TREE / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return "does not apply"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        if mutant.file.startswith("csrc") and not build():
            return "does not compile"
        passed = tests_pass(mutant.tests.split())
        return "killed" if passed is False else "no tests" if passed is None else "ALIVE"
    finally:
        path.write_text(text)


def main(words: list[str]) -> int:
    """Try the mutants; returns the exit status."""
    every = read_mutants((ROOT / "tests" / "mutants.txt").read_text())
    chosen = [m for m in every if not words or any(word in f"{m.file}: {m.name}" for word in words)]
    copy_tree()
    if not build():
        return 1
    tests = sorted({mutant.tests for mutant in chosen if not mutant.pending})
    broken = [each for each in tests if not tests_pass(each.split())]
    for each in broken:
        print(f"fails without any mutant: {each}")
    lives = 0
    for mutant in chosen if not broken else []:
        start = time.monotonic()
        fate = try_mutant(mutant)
        lives += fate != "killed" and not mutant.pending
        pending = f" (pending: {mutant.pending})" if mutant.pending else ""
        seconds = time.monotonic() - start
        print(f"{fate:16}{Path(mutant.file).name}: {mutant.name}{pending}, {seconds:.0f} s", flush=True)
        if mutant.file.startswith("csrc"):
            build()  # the next one begins with a whole library
    print(f"{len(chosen)} mutants, {lives} not killed")
    return 1 if lives or broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
