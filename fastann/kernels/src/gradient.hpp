// Stochastic gradient descent on prototypes: scores of pairs of a row and a prototype, and Adam.
//
// A batch of rows has a list of `m` prototypes for each row, and the pair at place row * m + slot keeps that place in
// all that is computed of it. The pairs of prototype j are at places[first[j]..first[j + 1]).
#pragma once

#include "buffer.hpp"
#include "descent.hpp"
#include "groups.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "rowops.hpp"
#include "table.hpp"

namespace fastann {
namespace {

// Run body(j, work) for every prototype that has pairs; `work` holds zeros for all columns, and must be left so.
template <class Body>
inline void each_prototype(const PrototypePairs& pairs, const Rows& x, const Rows& prototypes, const Body& body) {
    const int64_t k = prototypes.n, all = pairs.first[k], pieces = pieces_of(x);
    const double operations = 3.0 * static_cast<double>(all) * static_cast<double>(stored(x) / (x.n > 0 ? x.n : 1) + 1);
    parallel(pieces, operations, [&](int64_t piece) {
        const Buffer<float> work(x.d, 0);
        for (int64_t j = piece * k / pieces; j < (piece + 1) * k / pieces; j++) {
            if (pairs.first[j] < pairs.first[j + 1]) body(j, work.data());
        }
    });
}

// Score of each pair: minus the squared L2 distance if `euclidean`, the product otherwise.
void pair_scores(const Rows& x, const Rows& prototypes, const PrototypePairs& pairs, bool euclidean, float* out) {
    const Buffer<float> norms(euclidean ? x.n : 0);
    if (euclidean) {
        parallel_ranges(x.n, 256, 2.0 * static_cast<double>(stored(x)), [&](int64_t first, int64_t end) {
            for (int64_t i = first; i < end; i++) norms[i] = static_cast<float>(sqnorm64(x, i));
        });
    }
    each_prototype(pairs, x, prototypes, [&](int64_t j, float* work) {
        const float* v = load(prototypes, j, work);
        const float square = euclidean ? static_cast<float>(sqnorm64(prototypes, j)) : 0;
        for (int64_t q = pairs.first[j]; q < pairs.first[j + 1]; q++) {
            const int64_t i = pairs.places[q] / pairs.m;
            const float s = dot32(x, i, v);
            out[pairs.places[q]] = euclidean ? 2 * s - square - norms[i] : s;
        }
        unload(prototypes, j, work);
    });
}

// Move the `size` coordinates of a prototype by Adam's step. `gradient` is that of the scores; `own` and `along` are
// what a change of the prototype's own norm adds to it.
inline void step(const Adam& adam, int64_t size, const float* __restrict gradient, float own, float along,
                 float fix_one, float fix_two, float* __restrict p, float* __restrict one, float* __restrict two) {
    const float factor = adam.euclidean ? 2 * adam.scale : adam.scale, pull = adam.euclidean ? own : along;
    for (int64_t t = 0; t < size; t++) {
        const float v = p[t], g = factor * (gradient[t] - pull * v);
        one[t] = 0.9f * one[t] + 0.1f * g;
        two[t] = 0.99f * two[t] + 0.01f * g * g;
        const float move = adam.rate * (one[t] * fix_one) / (__builtin_sqrtf(two[t] * fix_two) + adam.least);
        p[t] = v != 0 ? v - move : v;
    }
}

// One step of Adam on every prototype that has pairs. A coordinate that is zero stays zero.
void descend(const Rows& x, const Rows& prototypes, float* values, const PrototypePairs& pairs, const float* slope,
             const Adam& adam) {
    each_prototype(pairs, x, prototypes, [&](int64_t j, float* sums) {
        float own = 0;
        for (int64_t q = pairs.first[j]; q < pairs.first[j + 1]; q++) {
            const float g = slope[pairs.places[q]];
            own += g;
            add(x, pairs.places[q] / pairs.m, g, sums);
        }
        const bool sparse = prototypes.sparse();
        const int64_t at = sparse ? prototypes.indptr[j] : j * prototypes.d;
        const int64_t size = sparse ? prototypes.indptr[j + 1] - at : prototypes.d;
        const Buffer<float> some(sparse ? size : 0);
        for (int64_t t = 0; sparse && t < size; t++) some[t] = sums[prototypes.indices[at + t]];
        const float* gradient = sparse ? some.data() : sums;
        float* p = values + at;
        const double taken = static_cast<double>(++adam.taken[j]);
        const float fix_one = static_cast<float>(1 / (1 - __builtin_pow(0.9, taken)));
        const float fix_two = static_cast<float>(1 / (1 - __builtin_pow(0.99, taken)));
        const float along = adam.euclidean ? 0 : dot32(gradient, p, size);
        step(adam, size, gradient, own, along, fix_one, fix_two, p, adam.mean + at, adam.square + at);
        if (!adam.euclidean) {
            const float norm = 1 / __builtin_sqrtf(dot32(p, p, size));
            for (int64_t t = 0; t < size; t++) p[t] *= norm;
        }
        for (int64_t q = pairs.first[j]; q < pairs.first[j + 1]; q++) {
            clear(x, pairs.places[q] / pairs.m, sums);
            if (!x.sparse()) break;  // all columns at once
        }
    });
}

constexpr void fill_gradient(Table& table) {
    table.pair_scores = pair_scores;
    table.descend = descend;
}

}  // namespace
}  // namespace fastann
