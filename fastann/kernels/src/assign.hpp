// One look of Lloyd's iterations at a table of few columns that is looked at often: the nearest centroid of each row,
// the second nearest where that is asked for, and the sums of clusters, all at once.
//
// Rows go across lanes, so that no lane waits for another and nothing is left to be reduced. Distances are sums of
// squared float32 differences, which lose no digits to the size of columns; nothing is certified.
#pragma once

#include "buffer.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "table.hpp"

namespace fastann {
namespace {

// Vectors of rows in registers: as many sums as hide how long an addition takes, but for few columns, where what is
// kept of each row would not fit beside.
template <int64_t D>
constexpr int64_t VECTORS = WIDTH == 16 || D == 0 || D > 4 ? 4 : 2;
constexpr int64_t ASSIGN_PIECES = 64, ASSIGN_ROWS = 512;

// Centroids that may be among the nearest, or the two nearest, of a row in a box: those not farther from it than the
// nearest (TWO: second nearest) of all is from the corner that is farthest from that. `columns` are the centroids by
// column, `stride` values each. Writes their numbers, ascending, and returns how many there are.
template <int64_t D, bool TWO>
inline int64_t near_box(const Assignment& a, const float* box, const float* columns, int64_t stride, float* least_of,
                        int32_t* near) {
    const int64_t d = D > 0 ? D : a.d;
    F32 best = splat(INFINITE), second = splat(INFINITE);
    for (int64_t j = 0; j < stride; j += WIDTH) {
        F32 closest = {}, farthest = {};
        for (int64_t t = 0; t < d; t++) {
            const F32 c = load<F32>(columns + t * stride + j);
            const F32 below = splat(box[t]) - c, above = c - splat(box[d + t]), within = least(below, above);
            const F32 out = largest(largest(below, above), F32{});
            closest = fma(out, out, closest);
            farthest = fma(within, within, farthest);  // the farther side is the one that is less far out
        }
        store(least_of + j, closest);
        second = least(second, largest(farthest, best));
        best = least(best, farthest);
    }
    float limit = least(best);
    if (TWO) {  // of the best two lanes, or of the second best in the best one
        const uint32_t at = ~below(splat(limit), best) & ((1U << WIDTH) - 1);
        float bests[WIDTH], seconds[WIDTH];
        store(bests, best);
        store(seconds, second);
        bests[lowest_bit(at)] = seconds[lowest_bit(at)];
        limit = least(load<F32>(bests));
    }
    const F32 most = splat(limit * (1 + 1e-5f) + 1e-30f);
    int64_t count = 0;
    for (int64_t j = 0; j < stride; j += WIDTH) {
        const uint32_t real = a.k - j < WIDTH ? (1U << (a.k - j)) - 1 : (1U << WIDTH) - 1;
        for (uint32_t hits = ~below(most, load<F32>(least_of + j)) & real; hits != 0; hits &= hits - 1) {
            near[count++] = static_cast<int32_t>(j) + lowest_bit(hits);
        }
    }
    return count;
}

// Squared distance of VECTORS * WIDTH rows, from row `first` on, to the nearest of some centroids, and which that is;
// TWO: of the second nearest too. D is d, or 0 if it is known at run time only.
template <int64_t D, bool TWO>
inline void score_lanes(const Assignment& a, int64_t first, const int32_t* near, int64_t count, F32 (&best)[VECTORS<D>],
                        I32 (&where)[VECTORS<D>], F32 (&second)[VECTORS<D>], I32 (&then)[VECTORS<D>]) {
    const int64_t d = D > 0 ? D : a.d;
    const float* rows[VECTORS<D>];
    for (int64_t v = 0; v < VECTORS<D>; v++) {
        const int64_t row = first + v * WIDTH;
        rows[v] = a.lanes + row / LANES * LANES * d + row % LANES;
        best[v] = second[v] = splat(INFINITE);
        where[v] = then[v] = splat32(-1);
    }
    for (int64_t m = 0; m < count; m++) {
        const float* c = a.c + near[m] * d;
        F32 sqdist[VECTORS<D>] = {};
        for (int64_t t = 0; t < d; t++) {
            const F32 value = splat(c[t]);
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS<D>; v++) {
                const F32 u = load<F32>(rows[v] + t * LANES) - value;
                sqdist[v] = fma(u, u, sqdist[v]);
            }
        }
        const I32 place = splat32(near[m]);
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS<D>; v++) {
            if (TWO) {
                const I32 after = sqdist[v] < second[v] ? place : then[v];
                then[v] = sqdist[v] < best[v] ? where[v] : after;
                second[v] = least(second[v], largest(sqdist[v], best[v]));
            }
            where[v] = sqdist[v] < best[v] ? place : where[v];
            best[v] = least(sqdist[v], best[v]);
        }
    }
}

// What rows add to one centroid, sixteen side by side: lane l has that of rows l, l + 16 and so on. Sums of few columns
// stay in the first cache.
template <int64_t D>
struct Sixteen {
    static constexpr int64_t PARTS = 2 * LANES / WIDTH;
    int32_t id = -1;
    F64 sum[D > 0 ? D : 1][PARTS] = {}, mass[PARTS] = {}, loss[PARTS] = {};
};

// The sums of one piece of the rows. The order in which rows are added does not depend on the instructions.
template <int64_t D, bool TWO>
class Piece {
    static constexpr int64_t HALF = WIDTH / 2, PARTS = Sixteen<D>::PARTS;
    static constexpr int64_t HELD = D > 0 ? 16 : 1;  // centroids whose sums are held
    static constexpr int FEW = 3;                    // rows of sixteen, below which each is added by itself

 public:
    Piece(const Assignment& a, double* sums) : a_(a), sums_(sums), mass_(sums + a.k * a.d), loss_(mass_ + a.k) {}

    // Add `count` rows from `first` on, at most as many as are in a box.
    void add(int64_t first, int64_t count, const int32_t* ids, const int32_t* others, const float* near,
             const float* far) {
        int64_t i = 0;
        for (; D > 0 && i + LANES <= count; i += LANES) sixteen(first + i, ids + i, others + i, near + i, far + i);
        for (; i < count; i++) one(first + i, ids[i], others[i], near[i], far[i]);
    }

    double finish() {
        for (Sixteen<D>& rows : held_) flush(rows);
        return cost_ + sum(costs_);
    }

 private:
    // Add sixteen rows, those of a centroid at once where they are more than a few. Others weigh nothing then, which
    // rows that are not numbers would not stand.
    void sixteen(int64_t first, const int32_t* ids, const int32_t* others, const float* near, const float* far) {
        const bool numbers = equal(ids, -1) == 0 && (!TWO || a_.k > 1);  // of one centroid, none is second nearest
        uint32_t rest = (1u << LANES) - 1;
        while (rest != 0) {
            const int lane = lowest_bit(rest);
            const uint32_t same = equal(ids, ids[lane]);
            rest &= ~same;
            if (numbers && count_bits(same) >= FEW) {
                together(first, ids, ids[lane], near, far);
                continue;
            }
            for (uint32_t bits = same; bits != 0; bits &= bits - 1) {
                const int l = lowest_bit(bits);
                one(first + l, ids[l], others[l], near[l], far[l]);
            }
        }
    }

    // Bit l says whether ids[l] is that one.
    static uint32_t equal(const int32_t* ids, int32_t id) {
        uint32_t bits = 0;
        for (int64_t l = 0; l < LANES; l += WIDTH) {
            const I32 differ = load<I32>(ids + l) ^ splat32(id);
            bits |= below(__builtin_convertvector(differ == 0, F32), F32{}) << l;
        }
        return bits;
    }

    // Add those of sixteen rows that go to centroid `id`.
    void together(int64_t first, const int32_t* ids, int32_t id, const float* near, const float* far) {
        Sixteen<D>& to = held_[id % HELD];
        if (id != to.id) {
            flush(to);
            to.id = id;
        }
        float chosen[LANES];
        for (int64_t l = 0; l < LANES; l += WIDTH) {
            store(chosen + l, load<I32>(ids + l) == splat32(id) ? splat(1) : F32{});
        }
        const float* lanes = a_.lanes + first * D;
        for (int64_t p = 0; p < PARTS; p++) {
            F64 weight = wide(chosen + p * HALF);
            if (a_.weights != nullptr) weight *= load<F64>(a_.weights + first + p * HALF);
            const F64 cost = wide(near + p * HALF);
            to.mass[p] += weight;
            costs_[p] += weight * cost;
            if (TWO) to.loss[p] += weight * (wide(far + p * HALF) - cost);
            for (int64_t t = 0; t < D; t++) to.sum[t][p] += weight * wide(lanes + t * LANES + p * HALF);
        }
    }

    void one(int64_t i, int32_t id, int32_t other, float near, float far) {
        const int64_t d = D > 0 ? D : a_.d;
        const float* row = a_.x + i * d;
        const double weight = a_.weights != nullptr ? a_.weights[i] : 1, cost = static_cast<double>(near);
        cost_ += weight * cost;
        if (id < 0) return;  // of a row that is not a number
        if (TWO && other >= 0) loss_[id] += weight * (static_cast<double>(far) - cost);
        for (int64_t t = 0; t < d; t++) sums_[id * d + t] += weight * static_cast<double>(row[t]);
        mass_[id] += weight;
    }

    void flush(Sixteen<D>& rows) {
        if (rows.id >= 0) {
            for (int64_t t = 0; t < D; t++) sums_[rows.id * D + t] += sum(rows.sum[t]);
            mass_[rows.id] += sum(rows.mass);
            loss_[rows.id] += sum(rows.loss);
        }
        rows = Sixteen<D>{};
    }

    static double sum(const F64 (&parts)[PARTS]) {
        double lane[LANES], total = 0;
        for (int64_t p = 0; p < PARTS; p++) store(lane + p * HALF, parts[p]);
        for (const double v : lane) total += v;
        return total;
    }

    const Assignment& a_;
    double *sums_, *mass_, *loss_, cost_ = 0;
    F64 costs_[PARTS] = {};
    Sixteen<D> held_[HELD];
};

template <int64_t D, bool TWO>
void assign_some(const Assignment& a) {
    const int64_t d = D > 0 ? D : a.d, group = VECTORS<D> * WIDTH;
    // Whatever the number of threads; each piece has sums of its own, which are few beside its rows.
    const int64_t least_rows = ASSIGN_ROWS > 2 * a.k ? ASSIGN_ROWS : 2 * a.k, most = a.n / least_rows + 1;
    const int64_t wanted = most < ASSIGN_PIECES ? most : ASSIGN_PIECES;
    const int64_t size = ((a.n + wanted - 1) / wanted + BOXED - 1) / BOXED * BOXED, pieces = (a.n + size - 1) / size;
    const int64_t stride = a.k * (d + 2);
    const Buffer<double> parts(pieces * stride, 0), costs(pieces, 0);
    const Buffer<int64_t> compared(pieces, 0);
    const int64_t columns = (a.k + WIDTH - 1) / WIDTH * WIDTH;
    const Buffer<float> by_column(columns * d, INFINITE);
    for (int64_t j = 0; j < a.k; j++) {
        for (int64_t t = 0; t < d; t++) by_column[t * columns + j] = a.c[j * d + t];
    }
    const double work = 2 * static_cast<double>(a.n) * static_cast<double>(a.k) * static_cast<double>(d);
    parallel(pieces, work, [&](int64_t index) {
        const int64_t end = (index + 1) * size < a.n ? (index + 1) * size : a.n;
        Piece<D, TWO> piece(a, parts + index * stride);
        const Buffer<float> least_of(columns);
        const Buffer<int32_t> near_by(columns);
        float near[BOXED], far[BOXED];
        int32_t ids[BOXED], others[BOXED];
        for (int64_t first = index * size; first < end; first += BOXED) {
            const int64_t count = end - first < BOXED ? end - first : BOXED;
            const int64_t candidates =
                near_box<D, TWO>(a, a.boxes + first / BOXED * 2 * d, by_column, columns, least_of, near_by);
            for (int64_t i = 0; i < count; i += group) {
                F32 best[VECTORS<D>], second[VECTORS<D>];
                I32 where[VECTORS<D>], then[VECTORS<D>];
                compared[index] += candidates * group;
                score_lanes<D, TWO>(a, first + i, near_by, candidates, best, where, second, then);
                for (int64_t v = 0; v < VECTORS<D>; v++) {
                    store(near + i + v * WIDTH, best[v]);
                    store(ids + i + v * WIDTH, where[v]);
                    if (TWO) {
                        store(far + i + v * WIDTH, second[v]);
                        store(others + i + v * WIDTH, then[v]);
                    }
                }
            }
            piece.add(first, count, ids, others, near, far);
            if (TWO) {
                std::memcpy(a.ids + first, ids, static_cast<size_t>(count) * sizeof(int32_t));
                std::memcpy(a.ids + a.n + first, others, static_cast<size_t>(count) * sizeof(int32_t));
                std::memcpy(a.sqdist + first, near, static_cast<size_t>(count) * sizeof(float));
                std::memcpy(a.sqdist + a.n + first, far, static_cast<size_t>(count) * sizeof(float));
            }
        }
        costs[index] = piece.finish();
    });
    *a.cost = 0;
    *a.compared = 0;
    for (int64_t piece = 0; piece < pieces; piece++) {
        *a.cost += costs[piece];
        *a.compared += compared[piece];
        for (int64_t t = 0; t < a.k * d; t++) a.sums[t] += parts[piece * stride + t];
        for (int64_t j = 0; j < a.k; j++) {
            a.mass[j] += parts[piece * stride + a.k * d + j];
            a.loss[j] += parts[piece * stride + a.k * (d + 1) + j];
        }
    }
}

template <int64_t D>
void assign_of(const Assignment& a) {
    a.ids != nullptr ? assign_some<D, true>(a) : assign_some<D, false>(a);
}

void assign(const Assignment& a) {
    const auto of = a.d == 1   ? assign_of<1>
                    : a.d == 2 ? assign_of<2>
                    : a.d == 3 ? assign_of<3>
                    : a.d == 4 ? assign_of<4>
                    : a.d == 5 ? assign_of<5>
                    : a.d == 8 ? assign_of<8>
                               : assign_of<0>;
    of(a);
}

constexpr void fill_assign(Table& table) { table.assign = assign; }

}  // namespace
}  // namespace fastann
