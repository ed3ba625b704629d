// Loops in pieces, for files compiled for one instruction set.
#pragma once

#include "pool.hpp"

namespace fastann {
namespace {

constexpr double FEW = 2e5;  // multiplications and additions that one thread does before another would have woken up

// Run body(piece) for every piece, on the threads of the pool: on as many as have `FEW` operations to do.
template <class Body>
inline void parallel(int64_t pieces, double operations, const Body& body) {
    const int64_t most = operations < 1e6 * FEW ? 1 + static_cast<int64_t>(operations / FEW) : 1000000;
    run(pieces, most, [](void* f, int64_t piece) { (*static_cast<const Body*>(f))(piece); }, const_cast<Body*>(&body));
}

// Run body(first, end) for ranges of at most `size` out of `n`.
template <class Body>
inline void parallel_ranges(int64_t n, int64_t size, double operations, const Body& body) {
    parallel((n + size - 1) / size, operations,
             [&](int64_t piece) { body(piece * size, (piece + 1) * size < n ? (piece + 1) * size : n); });
}

}  // namespace
}  // namespace fastann
