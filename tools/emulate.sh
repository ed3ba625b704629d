#!/bin/sh
# Run the core's tests on CPUs that this machine is not: an x86-64 without AVX, and an ARM (aarch64), as qemu has them.
# Debian, Ubuntu: apt install qemu-user g++-aarch64-linux-gnu cmake ninja-build
set -e
cd "$(dirname "$0")/.."
for tool in cmake ninja qemu-x86_64 qemu-aarch64 aarch64-linux-gnu-g++; do
    command -v $tool > /dev/null || { echo "emulate: needs $tool: apt install qemu-user g++-aarch64-linux-gnu cmake ninja-build"; exit 1; }
done

# emulate NAME EMULATOR [OPTIONS OF CMAKE]
emulate() {
    name=$1 emulator=$2 folder=build/emulate-$1
    shift 2
    echo "emulate: $name"
    cmake -S fastann/kernels -B "$folder" -G Ninja -DFASTANN_PYTHON=OFF -DFASTANN_TESTS=ON "$@" > /dev/null
    cmake --build "$folder" > "$folder/build.log" || { tail -40 "$folder/build.log"; exit 1; }
    $emulator "$folder/core_test"
}

if [ "$(uname -m)" = x86_64 ]; then emulate nehalem "qemu-x86_64 -cpu Nehalem"; fi
emulate aarch64 "qemu-aarch64 -L /usr/aarch64-linux-gnu" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
