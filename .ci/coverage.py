#!/usr/bin/env python3
"""What .ci/coverage prints: lines and branches that the tests ran, of each file below some folders, and of each folder.

    coverage.py [--missed] LINES BRANCHES FOLDER..

LINES is llvm-cov's export as lcov, BRANCHES its export as JSON. Tests are not counted: neither modules that stand behind
`#[cfg(test)]`, in a file of their own or not, nor folders of tests.
A branch is one side of a condition (of `if`, `while`, `&&`, `||`, a guard): it counts as run when some copy of the code, whether
of a generic function or of another build, went that way. The compiler counts no branches for `match` and `?`, of which the lines
tell as much.
"""

import json
import os
import re
import sys
from collections import defaultdict

TEST_FOLDER = re.compile(r"/tests(-support)?/")
TEST_MODULE = re.compile(r"^#\[cfg\(test\)\]\n(?:pub(?:\([a-z]+\))? )?mod (\w+);", re.MULTILINE)
ROOT = os.getcwd() + "/"


class File:
    def __init__(self, path):
        self.path = path
        self.source = open(path, encoding="utf-8").read().split("\n")
        self.lines = {}  # line: whether it was run
        self.branches = defaultdict(lambda: [0, 0])  # place: how often its condition held, and how often not
        self.tests = self.lines_of_tests()

    def lines_of_tests(self):
        """The lines of what stands behind `#[cfg(test)]` at the left edge: one that ends, or up to its closing brace."""
        lines, begun, within = set(), False, False
        for number, line in enumerate(self.source, 1):
            if begun or within:
                lines.add(number)
            if begun:
                within = not line.endswith(";")
            begun = line == "#[cfg(test)]"
            within = within and line != "}"
        return lines

    def sides(self):
        """Each side of each condition: its line, its column, which side, and whether it was run."""
        for (line, column, *_), counts in sorted(self.branches.items()):
            for side, count in zip((True, False), counts):
                yield line, column, side, count > 0

    def counts(self):
        sides = [ran for *_, ran in self.sides()]
        return Counts(len(self.lines), sum(self.lines.values()), len(sides), sum(sides))


class Counts:
    def __init__(self, lines=0, lines_run=0, branches=0, branches_run=0):
        self.numbers = [lines, lines_run, branches, branches_run]

    def add(self, other):
        self.numbers = [sum(pair) for pair in zip(self.numbers, other.numbers)]

    def row(self, name):
        lines, lines_run, branches, branches_run = self.numbers
        return f"{name:<52} {share(lines, lines_run)} lines, {share(branches, branches_run)} branches"


def share(all_of_them, ran):
    percent = 100 * ran / all_of_them if all_of_them else 100
    return f"{percent:6.2f} % of {all_of_them:5}"


def modules_of_tests(folders):
    """The paths, without their ending, of modules that only tests have."""
    modules = set()
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                if name.endswith(".rs"):
                    path = os.path.join(where, name)
                    # The modules of a file lie beside it, or in the folder of its name.
                    inside = where if name in ("lib.rs", "main.rs", "mod.rs") else path[:-3]
                    found = TEST_MODULE.findall(open(path, encoding="utf-8").read())
                    modules.update(os.path.join(inside, module) for module in found)
    return modules


def read(lines, branches, folders):
    files = {}
    tests = modules_of_tests(folders)

    def wanted(path):
        path = path.removeprefix(ROOT)
        if TEST_FOLDER.search("/" + path) or not any(path.startswith(folder + "/") for folder in folders):
            return None
        if any(path[:-3] == module or path.startswith(module + "/") for module in tests):
            return None
        if path not in files:
            files[path] = File(path)
        return files[path]

    file = None
    for line in open(lines, encoding="utf-8"):
        kind, _, rest = line.strip().partition(":")
        if kind == "SF":
            file = wanted(rest)
        elif kind == "DA" and file:
            number, count = map(int, rest.split(",")[:2])
            if number not in file.tests:
                file.lines[number] = file.lines.get(number, False) or count > 0
    for measured in json.load(open(branches, encoding="utf-8"))["data"][0]["files"]:
        file = wanted(measured["filename"])
        for branch in measured["branches"] if file else []:
            place, (held, not_held) = tuple(branch[:4]), branch[4:6]
            if place[0] not in file.tests:
                file.branches[place][0] += held
                file.branches[place][1] += not_held
    return files


def print_missed(file):
    sides = defaultdict(list)
    for line, column, side, ran in file.sides():
        # A condition in a line that was not run at all says nothing more.
        if not ran and file.lines.get(line, True):
            sides[line].append(f"{column} never {str(side).lower()}")
    for number in sorted({line for line, ran in file.lines.items() if not ran} | sides.keys()):
        why = f"  <- {', '.join(sides[number])}" if number in sides else ""
        print(f"    {number}: {file.source[number - 1].strip()}{why}")


def main():
    arguments = sys.argv[1:]
    missed = "--missed" in arguments
    lines, branches, *folders = [argument for argument in arguments if argument != "--missed"]
    folders = [folder.rstrip("/") for folder in folders]
    files = read(lines, branches, folders)
    sums = defaultdict(Counts)
    for path, file in sorted(files.items()):
        print(file.counts().row(path))
        if missed:
            print_missed(file)
        for folder in parents(path):
            if any(folder == top or folder.startswith(top + "/") for top in folders):
                sums[folder].add(file.counts())
    print()
    for folder, counts in sorted(sums.items()):
        print(counts.row(folder + "/"))


def parents(path):
    while path := os.path.dirname(path):
        yield path


main()
