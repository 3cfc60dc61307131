#!/usr/bin/env python3
"""Feeds check_includes.py small trees, good and bad."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).with_name("check_includes.py")

GOOD = {
    "include/crossdock/a.hpp": "#include <vector>\n#include <crossdock/b.hpp>\n",
    "include/crossdock/b.hpp": "",
    "src/base/error.hpp": "#include <fmt/format.h>\n#include <crossdock/a.hpp>\n",
    "src/base/logging.cpp": "#include <spdlog/spdlog.h>\n#include <sys/mman.h>\n#include <unistd.h>\n",
    "src/plan/layout.hpp": '#include "base/error.hpp"\n',
    "src/plan/layout.cpp": '#include "plan/layout.hpp"\n',
    "src/bootstrap/tcp.cpp": '#include <sodium.h>\n#include "base/error.hpp"\n',
    "src/backend/backend.hpp": '#include "plan/layout.hpp"\n',
    "src/transport/transport.hpp": '#include "base/error.hpp"\n',
    "src/backend/host/factory.hpp": '#include "backend/backend.hpp"\n',
    "src/backend/host/kernels.cpp": '#include <hwy/highway.h>\n#define HWY_TARGET_INCLUDE "backend/host/kernels.cpp"\n',
    "src/backend/cuda/factory.hpp": "",
    "src/transport/ucx/factory.hpp": '#include "transport/transport.hpp"\n',
    "src/reference/throughput.hpp": '#include "plan/layout.hpp"\n',
    "src/core/buffer.cpp": '#include "backend/host/factory.hpp"\n#include "transport/ucx/factory.hpp"\n',
    "tools/crossdock/main.cpp": '#include <CLI/CLI.hpp>\n#include "reference/throughput.hpp"\n#include "progress.hpp"\n',
    "tools/crossdock/progress.hpp": "",
    "tests/support/world.hpp": "",
    "tests/plan/layout_test.cpp": '#include <gtest/gtest.h>\n#include "plan/layout.hpp"\n#include "support/world.hpp"\n',
    "tests/consumer/consumer.cpp": "#include <crossdock/a.hpp>\n",
}

# What is wrong, the file that gets the line, the line, and what the message must say.
BAD = [
    ("public header with a C library", "include/crossdock/a.hpp", "#include <unistd.h>", "<unistd.h>"),
    ("public header with fmt", "include/crossdock/a.hpp", "#include <fmt/format.h>", "<fmt/format.h>"),
    ("public header with an internal one", "include/crossdock/a.hpp", '#include "base/error.hpp"', "base/error.hpp"),
    ("base upwards", "src/base/error.hpp", '#include "plan/layout.hpp"', "base may not include plan"),
    ("plan sideways", "src/plan/layout.hpp", '#include "bootstrap/tcp.cpp"', "plan may not include bootstrap"),
    ("bootstrap sideways", "src/bootstrap/tcp.cpp", '#include "plan/layout.hpp"', "bootstrap may not include plan"),
    ("contract to an implementation", "src/backend/backend.hpp", '#include "backend/host/factory.hpp"',
     "backend may not include backend/host"),
    ("reference to a backend", "src/reference/throughput.hpp", '#include "backend/host/factory.hpp"',
     "reference may not include backend/host"),
    ("backend to another", "src/backend/host/kernels.cpp", '#include "backend/cuda/factory.hpp"',
     "backend/host may not include backend/cuda"),
    ("backend to a concrete transport", "src/backend/host/kernels.cpp", '#include "transport/ucx/factory.hpp"',
     "backend/host may not include transport/ucx"),
    ("backend to core", "src/backend/host/kernels.cpp", '#include "core/buffer.cpp"', "may not include core"),
    ("core to the oracle", "src/core/buffer.cpp", '#include "reference/throughput.hpp"',
     "core may not include reference"),
    ("core past the door", "src/core/buffer.cpp", '#include "backend/host/kernels.cpp"', "door of backend/host"),
    ("highway elsewhere", "src/plan/layout.cpp", "#include <hwy/highway.h>", "only in src/backend/host"),
    ("sodium elsewhere", "tools/crossdock/main.cpp", "#include <sodium.h>", "only in src/bootstrap"),
    ("spdlog elsewhere", "src/core/buffer.cpp", "#include <spdlog/spdlog.h>", "only in src/base, tests"),
    ("json in the library", "src/plan/layout.cpp", "#include <nlohmann/json.hpp>", "only in tools, tests"),
    ("gtest in a tool", "tools/crossdock/main.cpp", "#include <gtest/gtest.h>", "only in tests"),
    ("unknown library", "src/base/error.hpp", "#include <boost/optional.hpp>", "unknown header"),
    ("missing file", "src/plan/layout.cpp", '#include "plan/nothing.hpp"', "no such file"),
    ("relative path", "src/plan/layout.cpp", '#include "layout.hpp"', "no such file below src/"),
    ("unknown part", "src/misc/a.hpp", '#include "base/error.hpp"', "no known part"),
    ("spaces around the hash", "src/base/error.hpp", '  #  include "plan/layout.hpp"', "base may not include plan"),
    ("consumer with internals", "tests/consumer/consumer.cpp", '#include "base/error.hpp"', "<crossdock/...>"),
]


def run(tree):
    """Exit code and messages of the script on a tree of {path: text}."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in tree.items():
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        result = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False)
        return result.returncode, result.stderr


class CheckIncludesTest(unittest.TestCase):
    def test_good_tree_passes(self):
        self.assertEqual(run(GOOD), (0, ""))

    def test_each_bad_line_is_found_where_it_is(self):
        for name, path, line, expected in BAD:
            with self.subTest(name):
                before = GOOD.get(path, "")
                code, messages = run({**GOOD, path: before + line + "\n"})
                self.assertEqual(code, 1)
                self.assertIn(expected, messages)
                self.assertTrue(messages.startswith(f"{path}:{before.count(chr(10)) + 1}: "), messages)
                self.assertEqual(messages.count("\n"), 1, messages)

    def test_empty_tree_is_an_error(self):
        code, messages = run({"README.md": ""})
        self.assertEqual(code, 1)
        self.assertIn("no sources", messages)


if __name__ == "__main__":
    unittest.main()
