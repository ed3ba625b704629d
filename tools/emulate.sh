#!/bin/sh
# Build the core's tests for CPUs that this machine is not, and run them emulated: 64-bit ARM, and x86-64 without AVX.
# Needs Debian's g++-aarch64-linux-gnu and qemu-user (apt install), cmake and ninja.
set -e
cd "$(dirname "$0")/.."
for tool in aarch64-linux-gnu-g++ qemu-aarch64 qemu-x86_64 cmake ninja; do
    command -v $tool > /dev/null || { echo "emulate: $tool is not here: apt install g++-aarch64-linux-gnu qemu-user"; exit 1; }
done

build() { # folder, options of cmake
    folder=build/emulate-$1
    shift
    cmake -S fastann/kernels -B "$folder" -G Ninja -DFASTANN_PYTHON=OFF -DFASTANN_TESTS=ON "$@" > /dev/null
    cmake --build "$folder" > "$folder/build.log" || { tail -40 "$folder/build.log"; exit 1; }
}

echo "emulate: aarch64"
build aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
qemu-aarch64 -L /usr/aarch64-linux-gnu build/emulate-aarch64/core_test --no-fork

echo "emulate: x86-64 without AVX, then with AVX2 and no AVX-512"
build x86_64 -DCMAKE_CXX_COMPILER="${CXX:-g++}"
qemu-x86_64 -cpu Nehalem build/emulate-x86_64/core_test --no-fork
qemu-x86_64 -cpu max build/emulate-x86_64/core_test --no-fork
