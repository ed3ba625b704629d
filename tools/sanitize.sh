#!/bin/sh
# Build the core's tests with sanitizers, and run them: wrong addresses and undefined behaviour first, then races.
set -e
cd "$(dirname "$0")/.."
for kind in address,undefined thread; do
    folder=build/sanitize-$(echo $kind | tr , -)
    echo "sanitize: $kind"
    cmake -S fastann/kernels -B "$folder" -G Ninja -DFASTANN_PYTHON=OFF -DFASTANN_TESTS=ON \
        -DFASTANN_SANITIZE=$kind -DCMAKE_BUILD_TYPE=RelWithDebInfo > /dev/null
    cmake --build "$folder" > "$folder/build.log" || { tail -40 "$folder/build.log"; exit 1; }
    "$folder/core_test" $([ $kind = thread ] && echo --no-fork)
done
