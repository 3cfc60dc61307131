# The tasks of this project. Each installs what it lacks (Debian 12, Ubuntu 24.04), configures, builds and runs.
#   make demo     the main job on real data          make test     the whole test suite but the soak
#   make build    library and command line           make bench    compare with MPI on this machine
#   make lint     formatting, clang-tidy, includes   make format   rewrite the sources in the project's format
#   make asan, make tsan    the tests under sanitizers             make soak    a million operations
#   make test-cuda    the tests of the CUDA backend, on a machine with a GPU
#   make test-cuda-emulated    the same on the CPU; needs the headers of CUDA 13 and no GPU
#   make python   the wheel, in build/wheel          make test-python   the tests of Python and torch
#   make install  into PREFIX (and DESTDIR)          make clean    remove the build folder
.PHONY: demo test build bench lint format asan tsan soak python test-python test-cuda test-cuda-emulated install clean help

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
# What follows `crossdock demo`, for example DEMO="--ranks 3", or the comparison with MPI, for example
# BENCH="--mode low-latency" or BENCH="--quick".
DEMO ?=
BENCH ?=
# Further arguments of ctest, for example CTEST="-R layout".
CTEST ?=
# Arguments of pytest, for example PYTEST="-k layout".
PYTEST ?=

install_dependencies := scripts/install_dependencies.sh
ninja := cmake --build build --parallel $(JOBS)

# A compiler cache is used where there is one.
ifneq ($(shell command -v ccache),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
endif

# Without the tests, until `make test` asks for them.
configure = test -f build/build.ninja || cmake --preset release -D CROSSDOCK_BUILD_TESTS=OFF
configure_with_tests = cmake --preset release -D CROSSDOCK_BUILD_TESTS=ON

build:
	@$(install_dependencies) build
	@$(configure)
	$(ninja) --target crossdock crossdock_cli

demo:
	@$(install_dependencies) build
	@$(configure)
	@$(ninja) --target crossdock_cli
	build/bin/crossdock demo $(DEMO)

test:
	@$(install_dependencies) test
	$(configure_with_tests)
	$(ninja)
	ctest --preset release $(CTEST)

soak:
	@$(install_dependencies) test
	$(configure_with_tests)
	$(ninja)
	ctest --preset soak $(CTEST)

asan tsan:
	@$(install_dependencies) test
	scripts/sanitize.sh $@ $(CTEST)

bench:
	@$(install_dependencies) bench
	@$(configure)
	$(ninja) --target crossdock_cli
	python3 benchmarks/compare.py $(BENCH)

lint:
	@$(install_dependencies) lint
	$(configure_with_tests)
	scripts/lint.sh

format:
	@$(install_dependencies) lint
	scripts/lint.sh --fix

python:
	@$(install_dependencies) build python
	scripts/build_wheel.sh

test-python:
	@$(install_dependencies) build test python
	scripts/test_python.sh $(PYTEST)
	adapters/torch/test.sh

test-cuda:
	@$(install_dependencies) test
	$(configure_with_tests)
	$(ninja)
	scripts/cuda_test.sh build/bin

test-cuda-emulated:
	@$(install_dependencies) emulator
	cmake --preset emulator
	cmake --build --preset emulator --parallel $(JOBS) --target cuda_tests
	ctest --preset emulator $(CTEST)

install: build
	cmake --install build --prefix "$(PREFIX)"

clean:
	rm -rf build

help:
	@sed -n 's/^#   //p' Makefile
