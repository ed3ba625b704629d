#include "buffer.hpp"

#include <cstdlib>
#include <new>

namespace fastann {

namespace {
constexpr int64_t ALIGNMENT = 64;
}

void* allocate(int64_t bytes) {
    // An own aligned malloc: what C++17 and POSIX offer is missing on some systems. The place of the raw memory stands
    // before the aligned one.
    if (bytes < 0 || bytes > INT64_MAX - 2 * ALIGNMENT) throw std::bad_alloc();
    char* raw =
        static_cast<char*>(std::malloc(static_cast<size_t>(bytes + ALIGNMENT + static_cast<int64_t>(sizeof(void*)))));
    if (raw == nullptr) throw std::bad_alloc();
    const uintptr_t first = reinterpret_cast<uintptr_t>(raw) + sizeof(void*);
    char* aligned = reinterpret_cast<char*>((first + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    reinterpret_cast<void**>(aligned)[-1] = raw;
    return aligned;
}

void release(void* memory) noexcept {
    if (memory != nullptr) std::free(static_cast<void**>(memory)[-1]);
}

}  // namespace fastann
