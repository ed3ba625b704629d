// What tests of the core are written with.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "../src/rows.hpp"

// End the program, with the place and the condition, unless it holds.
#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (false)

// Awkward numbers of columns: below, at and above whole vectors of every width.
constexpr int64_t SIZES[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100};

inline std::vector<float> random_floats(int64_t count, unsigned seed, float scale = 1, float offset = 0) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<float> out(static_cast<size_t>(count));
    for (float& v : out) v = offset + scale * normal(engine);
    return out;
}

// Rows at an address that is a multiple of 4 and of nothing more; or sparse ones, a third of whose columns are stored.
class Table {
 public:
    Table(int64_t n, int64_t d, unsigned seed, float offset = 0)
        : n_(n), d_(d), values_(random_floats(n * d + 1, seed, 1, offset)) {}

    const float* data() const { return values_.data() + 1; }
    const float* row(int64_t i) const { return data() + i * d_; }
    float* row(int64_t i) { return values_.data() + 1 + i * d_; }
    fastann::Rows dense() const { return {data(), n_, d_}; }

    // Take two thirds of the values away, and hold the rest as CSR too.
    fastann::Rows thin_out() {
        places_ = {0};
        for (int64_t i = 0; i < n_; i++) {
            for (int64_t t = 0; t < d_; t++) {
                float& v = row(i)[t];
                if ((i * 5 + t * 7) % 3 != 0) v = 0;
                if (v == 0) continue;
                columns_.push_back(static_cast<int32_t>(t));
                stored_.push_back(v);
            }
            places_.push_back(static_cast<int64_t>(stored_.size()));
        }
        return {stored_.data(), n_, d_, columns_.data(), places_.data()};
    }

 private:
    int64_t n_, d_;
    std::vector<float> values_, stored_;
    std::vector<int32_t> columns_;
    std::vector<int64_t> places_;
};

inline double sqdist_plain(const float* a, const float* b, int64_t d) {
    double total = 0;
    for (int64_t t = 0; t < d; t++) {
        const double u = static_cast<double>(a[t]) - static_cast<double>(b[t]);
        total += u * u;
    }
    return total;
}

// The nearest of the centroids first..end-1; ties go to the lowest. -1 if there are none.
inline int32_t nearest_plain(const float* row, const Table& c, int64_t first, int64_t end, int64_t d) {
    int32_t best = -1;
    double least = 1e300;
    for (int64_t j = first; j < end; j++) {
        const double s = sqdist_plain(row, c.row(j), d);
        if (s < least) {
            least = s;
            best = static_cast<int32_t>(j);
        }
    }
    return best;
}

inline bool close(double a, double b, double rounding = 1e-9) {
    return std::abs(a - b) <= rounding * (1 + std::abs(a) + std::abs(b));
}

// Remember what a result was the first time, and end the program where it differs later by a bit: on another number of
// threads, or by other instructions.
void same_bits(const std::string& name, const void* data, size_t bytes);

template <class T>
void same_bits(const std::string& name, const std::vector<T>& values) {
    same_bits(name, values.data(), values.size() * sizeof(T));
}

void test_pool(bool fork);
void test_sums();
void test_pairs();
void test_groups();
void test_visits();
void test_searches();
void test_duplicates();
