"""The programs that are compared. Each turns a shape into times: {column: {"dispatch": {...}, "combine": {...}}}."""

import dataclasses
import json
import os
import pathlib
import shutil

from comparison import processes
from comparison.processes import Failed
from comparison.shapes import write_raw_routing

SECONDS_TO_BUILD = 600


def build(source, folder, compiler=None):
    """Configures and builds a benchmark's CMake project. Failed if that is not possible here."""
    if shutil.which("cmake") is None:
        raise Failed("cmake is not installed")
    if compiler is not None and shutil.which(compiler) is None:
        raise Failed(f"{compiler} is not installed")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    choice = [f"-DCMAKE_CXX_COMPILER={compiler}"] if compiler else []
    if not (folder / "CMakeCache.txt").exists():
        processes.run(["cmake", *generator, "-S", str(source), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *choice],
                      SECONDS_TO_BUILD)
    processes.run(["cmake", "--build", str(folder), "--parallel"], SECONDS_TO_BUILD)


class Contender:
    """reason: why it cannot run, empty if it can. columns: the names under which it gives results."""

    def __init__(self, columns):
        self.columns = columns
        self.reason = ""

    def measure(self, shape, iterations, folder, watch=None):
        json_file = folder / "result.json"
        json_file.unlink(missing_ok=True)
        command = self._command(shape, iterations, folder, json_file)
        processes.run(command, self._seconds(iterations), self._environment(), watch)
        try:
            result = json.loads(json_file.read_text())
        except (OSError, ValueError) as error:
            raise Failed(f"{self.columns[0]} wrote no result: {error}") from error
        if not result.get("verified"):
            raise Failed(f"{self.columns[0]} gave a wrong result")
        return result

    def _environment(self):
        return {}

    def _seconds(self, iterations):
        return 120 + iterations * 10


def shape_flags(shape, iterations, routing):
    return ["--tokens", str(shape.tokens), "--hidden", str(shape.hidden), "--topk", str(shape.topk),
            "--experts", str(shape.experts), "--iterations", str(iterations), "--routing", routing]


class Crossdock(Contender):
    """crossdock's own benchmark. flags: what else it is given, the mode for example."""

    def __init__(self, binary, launch, column="crossdock", flags=()):
        super().__init__([column])
        self._binary = binary
        self._flags = [f"--{launch}", *flags]
        if not pathlib.Path(binary).exists():
            self.reason = f"{binary} is not built"

    def _command(self, shape, iterations, folder, json_file):
        return [str(self._binary), "bench", "--ranks", str(shape.ranks),
                *shape_flags(shape, iterations, shape.trace or "uniform"), *self._flags, "--json", str(json_file)]

    def columns_of(self, result):
        return {self.columns[0]: result["phases"]}


@dataclasses.dataclass(frozen=True)
class Mpi:
    title: str
    kind: str  # as in the names of its programs, mpicxx.KIND
    launcher: list


class MpiPeer(Contender):
    """One MPI with all variants of the job. variants: the program's names of them and our columns."""

    def __init__(self, mpi, variants, flags, benchmarks, build_root):
        super().__init__(list(variants.values()))
        self._variants = variants
        self._launcher = mpi.launcher
        self._flags = flags
        folder = build_root / f"peers-{mpi.kind}"
        self._binary = folder / "mpi_peer"
        try:
            if shutil.which(mpi.launcher[0]) is None:
                raise Failed(f"{mpi.launcher[0]} is not installed")
            build(benchmarks / "peers", folder, f"mpicxx.{mpi.kind}")
        except Failed as failure:
            self.reason = str(failure)

    def _command(self, shape, iterations, folder, json_file):
        routing = "uniform"
        if shape.trace:
            routing = str(folder / "routing.i16")
            write_raw_routing(shape, routing)
        return [*self._launcher, "-n", str(shape.ranks), str(self._binary), *shape_flags(shape, iterations, routing),
                *self._flags, "--json", str(json_file)]

    def columns_of(self, result):
        return {self._variants[name]: phases for name, phases in result["variants"].items()}


def normal_peer(mpi, benchmarks, build_root, settings):
    variants = {"alltoallv": mpi.title, "one_sided": f"{mpi.title} one-sided"}
    flags = ["--mode", "normal", "--pages", settings.peer_pages]
    if settings.direct_self:
        variants["alltoallv_direct_self"] = f"{mpi.title} self"
        flags.append("--direct-self")
    return MpiPeer(mpi, variants, flags, benchmarks, build_root)


def open_mpi():
    """With ranks that yield when idle: by default they spin, which costs whole time slices with more ranks than cores.
    """
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return Mpi("Open MPI", "openmpi", ["mpirun.openmpi", *as_root, "--oversubscribe", "--bind-to", "none",
                                       "--mca", "mpi_yield_when_idle", "1",
                                       "--mca", "btl_vader_single_copy_mechanism", "cma"])


def mpich():
    """MPICH 4.0 spins whatever it is told (MPIR_CVAR_POLLS_BEFORE_YIELD and UCX_TLS changed nothing): with more ranks than
    cores, small operations cost whole time slices.
    """
    return Mpi("MPICH", "mpich", ["mpirun.mpich"])


MPIS = {"openmpi": open_mpi, "mpich": mpich}
