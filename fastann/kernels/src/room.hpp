// Several arrays in one block of memory. For files that are compiled once, not for each instruction set.
#pragma once

#include <cstdint>

namespace fastann {
namespace {

// Take room for `count` values off a block of memory, to the next cache line; `at` is how far the block is taken.
template <class T>
T* room(char* block, int64_t& at, int64_t count) {
    T* first = reinterpret_cast<T*>(block + at);
    at += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return first;
}

}  // namespace
}  // namespace fastann
