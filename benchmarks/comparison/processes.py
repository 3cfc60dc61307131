"""Runs programs with a time limit, leaving nothing behind, and watches how much memory they take."""

import os
import pathlib
import signal
import subprocess
import tempfile
import threading


class Failed(Exception):
    """A program could not be run or did not succeed; the text is for the user."""


def run(command, seconds, environment=None, watch=None):
    """Standard output and error of a command. Failed if it fails or takes longer, with its last lines."""
    with tempfile.TemporaryFile() as output:
        try:
            # A session of its own, so that a time-out ends the launcher's children too.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                       env={**os.environ, **(environment or {})}, start_new_session=True)
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from error
        try:
            if watch is not None:
                watch.follow(process.pid)
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{pathlib.Path(command[0]).name} took longer than {seconds} s") from error
        finally:
            end_session(process)
            if watch is not None:
                watch.stop()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if status != 0:
        last = " | ".join(line.strip() for line in text.strip().splitlines()[-4:])
        raise Failed(f"{pathlib.Path(command[0]).name} ended with {status}: {last}")
    return text


def end_session(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def descendants(root):
    """Process ids of root and all below it."""
    found = [root]
    for pid in found:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue  # it has just ended
    return found


def proportional_bytes(pid):
    """Pss of a process: its memory, shared pages divided among their users. 0 if it has ended."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


class MemoryWatch:
    """The largest sum of Pss over a process and its descendants, sampled a few times a second."""

    def __init__(self):
        self.peak_bytes = 0
        self._stopped = threading.Event()
        self._thread = None

    def follow(self, root):
        self._thread = threading.Thread(target=self._sample, args=(root,), daemon=True)
        self._thread.start()

    def stop(self):
        self._stopped.set()
        self._thread.join()

    def _sample(self, root):
        while not self._stopped.wait(0.2):
            self.peak_bytes = max(self.peak_bytes, sum(proportional_bytes(pid) for pid in descendants(root)))
