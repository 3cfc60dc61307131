#!/usr/bin/env python3
"""Makes C++ of a .cu file: translate.py FROM TO. Only launches and dynamic shared memory are not C++ already."""
import pathlib
import re
import sys


def begin_of_callee(text, end):
    """Where the name of a kernel begins that ends at `end`, template arguments included."""
    at = len(text[:end].rstrip())
    if text[at - 1] == ">":
        depth = 0
        while True:
            at -= 1
            depth += {">": 1, "<": -1}.get(text[at], 0)
            if depth == 0:
                break
    return re.search(r"[A-Za-z_][A-Za-z_0-9:]*$", text[:at]).start()


def translate_launches(text):
    while (at := text.find("<<<")) >= 0:
        begin = begin_of_callee(text, at)
        end = text.index(">>>", at)
        callee = text[begin:at].rstrip()
        text = f"{text[:begin]}crossdock::emulator::launcher({callee}, {text[at + 3:end]}){text[end + 3:]}"
    return text


def translate_shared(text):
    return re.sub(r"extern __shared__ ([\w:]+) (\w+)\[\];",
                  r"\1* const \2 = static_cast<\1*>(crossdock::emulator::dynamic_shared());", text)


def main():
    source, target = map(pathlib.Path, sys.argv[1:3])
    text = translate_shared(translate_launches(source.read_text()))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'#line 1 "{source}"\n{text}')


main()
