// Rules by which a row's distances to centroids are compared.
#pragma once

namespace fastann {

constexpr int LLOYD = 0, SIZE_AWARE = 1, SIZE_AWARE_COSINE = 2;

namespace {

// Factor on the squared distance to a row's own centroid: Hartigan's W / (W - w), or its cosine form. A row alone in
// its cluster stays.
inline float stay(int rule, double mass, double w) {
    if (rule == LLOYD) return 1;
    if (mass <= w) return 0;
    return static_cast<float>(rule == SIZE_AWARE ? mass / (mass - w) : 1 + w / mass);
}

// Lower bound of the factor on the squared distance to another centroid: W / (W + w), or its cosine form.
inline float join(int rule, double mass, double w) {
    if (rule == LLOYD || mass == __builtin_inf()) return 1;
    if (rule == SIZE_AWARE) return static_cast<float>(mass / (mass + w));
    return mass > w ? static_cast<float>(1 - w / mass) : 0;
}

// What a row of weight `w` costs in a cluster of `mass`, see the documentation of `cost` in bindings/bounds.cpp.
inline double cost(int rule, double sqdist, double mass, double w, bool own) {
    if (rule == LLOYD) return sqdist;
    if (rule == SIZE_AWARE) {
        if (own) return mass > w ? sqdist * (mass / (mass - w)) : -1;
        return sqdist * (mass / (mass + w));
    }
    const double s = 1 - 0.5 * sqdist;
    if (own && mass <= w) return -1e300;
    const double step = own ? w * (w - 2 * mass * s) : w * (w + 2 * mass * s);
    const double square = mass * mass + step;
    const double grown = step / (__builtin_sqrt(square > 0 ? square : 0) + mass);
    return own ? grown : -grown;
}

}  // namespace
}  // namespace fastann
