#include "decisions.hpp"

#include "parallel.hpp"

namespace fastann {

namespace {

// Hashes of R rows. Each is a chain of multiplications; several are under way at once.
template <int64_t R>
void hash(const uint32_t* x, int64_t d, uint64_t* out) {
    uint64_t h[R];
    for (int64_t r = 0; r < R; r++) h[r] = 0x9E3779B97F4A7C15;
    for (int64_t t = 0; t < d; t++) {
        for (int64_t r = 0; r < R; r++) {
            const uint32_t v = x[r * d + t];
            h[r] = (h[r] ^ (v == 0x80000000 ? 0 : v)) * 0xBF58476D1CE4E5B9;
            h[r] ^= h[r] >> 29;
        }
    }
    for (int64_t r = 0; r < R; r++) out[r] = h[r];
}

}  // namespace

void fingerprints(const uint32_t* x, int64_t n, int64_t d, uint64_t* out) {
    parallel_ranges(n, 256, 4.0 * static_cast<double>(n) * static_cast<double>(d), [&](int64_t first, int64_t end) {
        int64_t i = first;
        for (; i + 4 <= end; i += 4) hash<4>(x + i * d, d, out + i);
        for (; i < end; i++) hash<1>(x + i * d, d, out + i);
    });
}

int64_t ready(const Memberships& task, int32_t* out) {
    int64_t count = 0;
    for (int64_t p = 0; p < task.count; p++) {
        const int32_t row = task.rows[p], found = task.found[p];
        if (task.status[row] != UNDECIDED || found == CLEAR) continue;
        if (found >= 0) {
            const int32_t other = task.columns[found];
            if (task.status[other] == UNDECIDED) continue;
            if (task.status[other] == KEPT) {
                task.status[row] = DROPPED;
                task.duplicate_of[row] = other;
                task.similarity[row] = task.cosine[p];
                continue;
            }
        }
        out[count++] = static_cast<int32_t>(p);
    }
    return count;
}

void decide(const Memberships& task, const int32_t* places, int64_t count, const int32_t* near, const float* value,
            int32_t* found, float* cosine, int32_t* waits) {
    for (int64_t t = 0; t < count; t++) {
        const int32_t place = places[t], row = task.rows[place];
        found[place] = near[t];
        cosine[place] = value[t];
        if (near[t] == CLEAR) {
            if (--waits[row] == 0) task.status[row] = KEPT;
        } else if (task.status[task.columns[near[t]]] == KEPT) {
            task.status[row] = DROPPED;
            task.duplicate_of[row] = task.columns[near[t]];
            task.similarity[row] = value[t];
        }
    }
}

}  // namespace fastann
