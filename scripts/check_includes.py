#!/usr/bin/env python3
"""Checks which file includes which: the arrows of docs/design.md point down only, and the headers of other projects
stay where they belong. Usage: check_includes.py [ROOT]. Prints each violation; exit code 1 if there is one."""

import pathlib
import re
import sys

# What a part of src/ may include besides itself and <crossdock/...>.
BELOW = {
    "base": {"base"},
    "codec": {"base"},
    "plan": {"base", "codec"},
    "bootstrap": {"base"},
    "backend": {"base", "codec", "plan", "bootstrap"},  # the contract of backends
    "transport": {"base", "plan", "bootstrap"},  # the contract of transports
    "reference": {"base", "codec", "plan"},
    "backend/*": {"base", "codec", "plan", "bootstrap", "backend", "transport"},
    "transport/*": {"base", "plan", "bootstrap", "transport"},
    "core": {"base", "plan", "bootstrap", "backend", "transport", "backend/*", "transport/*"},
}

# Backends that are made of another one's parts: on one host, counts, places and signals of ranks with CUDA devices go
# through the host's windows.
EXTENDS = {("backend/cuda", "backend/host")}

# Folders that hold users of the library; they may include all of src/.
USERS = ("tools", "tests", "benchmarks", "examples", "adapters", "python")

# Headers of other projects and the folders that may include them.
THIRD_PARTY = {
    r"fmt/": ("src", "tools", "tests", "benchmarks", "examples"),
    r"spdlog/": ("src/base", "tests"),
    r"sodium(\.h|/)": ("src/bootstrap",),
    r"hwy/": ("src/backend/host", "tests/backend/host"),
    r"hwloc(\.h|/)": ("src/base", "src/backend/host", "tools"),
    r"cuda(_runtime|_runtime_api|Typedefs)?\.h": (
        "src/backend/cuda",
        "tests/backend/cuda",
        "tests/emulator",
        "benchmarks/cuda",
    ),
    r"vector_(types|functions)\.h": ("tests/emulator",),
    r"boost/context/fiber\.hpp": ("tests/emulator",),
    r"(CLI|nlohmann)/": ("tools", "tests", "benchmarks"),
    r"(gtest|gmock)/": ("tests", "adapters/torch/tests"),
    r"(ATen|c10|torch)/": ("adapters/torch", "examples/torch_moe_layer"),
    r"benchmark/": ("benchmarks",),
    r"mpi\.h": ("benchmarks",),
    r"nanobind/": ("python",),
}

# Of C, POSIX and Linux; headers of C++ have neither a dot nor a slash.
SYSTEM = re.compile(
    r"(sys|linux|asm|net|netinet|arpa)/\w+(/\w+)*\.h|[a-z]+intrin\.h|"
    r"(ctype|dirent|dlfcn|endian|errno|fcntl|float|getopt|ifaddrs|inttypes|limits|locale|malloc|math|netdb|poll|pthread|"
    r"pwd|sched|semaphore|signal|spawn|stdint|stdio|stdlib|string|strings|syscall|termios|time|ucontext|unistd)\.h"
)
CXX = re.compile(r"[a-z_]+")

INCLUDE = re.compile(r'^\s*#\s*(?:include|define\s+HWY_TARGET_INCLUDE)\s*([<"])([^>"]+)[>"]')
SUFFIXES = {".hpp", ".cpp", ".h", ".cc", ".cu", ".cuh"}


def component_of(path):
    """The part of src/ that a path below src/ belongs to: "plan", "backend" (the contract) or "backend/host"."""
    parts = pathlib.PurePosixPath(path).parts
    if len(parts) < 2:
        return None
    if parts[0] in ("backend", "transport") and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def kind_of(component):
    """The key of a component in BELOW, or None."""
    kind = re.sub(r"^(backend|transport)/.*", r"\1/*", component or "")
    return kind if kind in BELOW else None


def check_angle(where, header):
    """Why the file `where` must not have #include <header>, or None."""
    if header.startswith("crossdock/"):
        return None
    if CXX.fullmatch(header):
        return None
    if where.startswith(("include/", "tests/consumer/")):
        return f"<{header}>: only <crossdock/...> and the C++ standard library are allowed here"
    if SYSTEM.fullmatch(header):
        return None
    for pattern, folders in THIRD_PARTY.items():
        if re.match(pattern, header):
            if any(where.startswith(folder + "/") for folder in folders):
                return None
            return f"<{header}>: allowed only in {', '.join(folders)}"
    return f"<{header}>: unknown header; scripts/check_includes.py lists those that are allowed, and where"


def check_component(where, header):
    """Why the file `where`, below src/, must not have #include "header", or None."""
    mine, other = component_of(where.removeprefix("src/")), component_of(header)
    if kind_of(mine) is None:
        return f"{where.rsplit('/', 1)[0]} is no known part of src/"
    if kind_of(other) is None:
        return f'"{header}": not "<part of src/>/<file>"'
    if other == mine or (mine, other) in EXTENDS:
        return None
    if kind_of(other) not in BELOW[kind_of(mine)]:
        return f'"{header}": {mine} may not include {other}'
    if other.count("/") == 1 and not header.endswith("/factory.hpp"):
        return f'"{header}": the only door of {other} is {other}/factory.hpp'
    return None


def check_quoted(root, where, header):
    """Why the file `where` must not have #include "header", or None."""
    if where.startswith(("include/", "tests/consumer/")):
        return f'"{header}": public headers are included as <crossdock/...>'
    if where.startswith("src/"):
        if not (root / "src" / header).is_file():
            return f'"{header}": no such file below src/'
        return check_component(where, header)
    places = [(root / where).parent, root / "src", *(root / user for user in USERS)]
    if not any((place / header).is_file() for place in places):
        return f'"{header}": no such file beside it, below src/, or below {", ".join(USERS)}'
    return None


def check_file(root, path):
    """Messages about one file."""
    where = path.relative_to(root).as_posix()
    messages = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if not match:
            continue
        bracket, header = match.groups()
        reason = check_angle(where, header) if bracket == "<" else check_quoted(root, where, header)
        if reason:
            messages.append(f"{where}:{number}: {reason}")
    return messages


def check_tree(root):
    """(messages about all sources below root, number of files read)"""
    messages, count = [], 0
    for folder in ("include", "src", *USERS):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                messages += check_file(root, path)
                count += 1
    return messages, count


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]).resolve()
    messages, count = check_tree(root)
    if count == 0:
        messages.append(f"{root}: no sources found")
    for message in messages:
        print(message, file=sys.stderr)
    if not messages:
        print(f"check_includes: {count} files, every include points down")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
