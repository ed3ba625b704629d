#include "softmax.hpp"

#include <cmath>

#include "parallel.hpp"

namespace fastann {

namespace {

void of_row(const Softmax& s, int64_t i) {
    const int32_t* ids = s.ids + i * s.m;
    const float* score = s.score + i * s.m;
    float* slope = s.slope + i * s.m;
    float top = -3e38f;  // below any score
    for (int64_t t = 0; t < s.m; t++) {
        if (ids[t] >= 0 && score[t] > top) top = score[t];
    }
    double total = 0, right = 0;
    int64_t found = 0;
    for (int64_t t = 0; t < s.m; t++) {
        slope[t] = 0;
        if (ids[t] < 0) continue;
        const double e = std::exp(s.scale * static_cast<double>(score[t] - top));
        slope[t] = static_cast<float>(e);
        total += e;
        found++;
        if (s.owner[ids[t]] == s.labels[i]) right += e;
    }
    if (found == 0) {
        s.loss[2 * i] = s.loss[2 * i + 1] = 0;
        return;
    }
    right = right > total * 1e-30 ? right : total * 1e-30;
    double by_scale = 0;
    for (int64_t t = 0; t < s.m; t++) {
        if (ids[t] < 0) continue;
        const double e = slope[t];
        const double own = s.owner[ids[t]] == s.labels[i] ? e / right : 0;
        const double g = e / total - (1 - s.smooth) * own - s.smooth / static_cast<double>(found);
        by_scale += g * static_cast<double>(score[t] - top);
        slope[t] = static_cast<float>(g * s.weights[i]);
    }
    s.loss[2 * i] = s.weights[i] * (std::log(total) - std::log(right));
    s.loss[2 * i + 1] = s.weights[i] * s.scale * by_scale;
}

}  // namespace

void cross_entropy(const Softmax& s) {
    const double operations = 30.0 * static_cast<double>(s.b * s.m);
    parallel_ranges(s.b, 64, operations, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; i++) of_row(s, i);
    });
}

}  // namespace fastann
