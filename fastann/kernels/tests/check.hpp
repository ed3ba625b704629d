// What tests of the core are written with.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

// End the program, with the place and the condition, unless it holds.
#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (false)

inline std::vector<float> random_floats(int64_t count, unsigned seed, float scale = 1, float offset = 0) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<float> out(static_cast<size_t>(count));
    for (float& v : out) v = offset + scale * normal(engine);
    return out;
}

void test_pool();
void test_loops();
void test_near();
void test_searches();
