#include "buffer.hpp"

#include <cstdlib>
#include <new>

namespace fastann {

namespace {

constexpr int64_t ALIGNMENT = 64;

// What stands before the aligned memory: where the raw memory begins, and how much may be used.
struct Header {
    void* raw;
    int64_t bytes;
};

Header& header_of(void* memory) { return static_cast<Header*>(memory)[-1]; }

// Scratch memory that a thread gave back, to be used again: each piece of work asks for the same sizes, and the system
// would clear every page of it anew.
class Kept {
 public:
    ~Kept() {
        for (int64_t i = 0; i < count_; i++) std::free(header_of(blocks_[i]).raw);
        count_ = 0;
        closed_ = true;  // what is released after this goes to the system
    }

    // A block of at least `bytes` and at most four times as many, or null.
    void* take(int64_t bytes) {
        for (int64_t i = count_ - 1; i >= 0; i--) {
            void* block = blocks_[i];
            const int64_t size = header_of(block).bytes;
            if (size < bytes || size > 4 * bytes) continue;
            blocks_[i] = blocks_[--count_];
            bytes_ -= size;
            return block;
        }
        return nullptr;
    }

    // Keep a block, if there is room.
    bool keep(void* block) {
        const int64_t size = header_of(block).bytes;
        if (closed_ || count_ == MOST || size < SMALLEST || bytes_ + size > LARGEST) return false;
        blocks_[count_++] = block;
        bytes_ += size;
        return true;
    }

 private:
    static constexpr int64_t MOST = 8, SMALLEST = 1 << 14, LARGEST = 1 << 22;  // blocks, and bytes of one and of all
    void* blocks_[MOST];
    int64_t count_ = 0, bytes_ = 0;
    bool closed_ = false;
};

thread_local Kept kept;

}  // namespace

void* allocate(int64_t bytes) {
    if (void* block = kept.take(bytes)) return block;
    // An own aligned malloc: what C++17 and POSIX offer is missing on some systems.
    constexpr int64_t MORE = ALIGNMENT + static_cast<int64_t>(sizeof(Header));
    if (bytes < 0 || bytes > INT64_MAX - MORE) throw std::bad_alloc();
    void* raw = std::malloc(static_cast<size_t>(bytes + MORE));
    if (raw == nullptr) throw std::bad_alloc();
    const uintptr_t first = reinterpret_cast<uintptr_t>(raw) + sizeof(Header);
    void* aligned = reinterpret_cast<void*>((first + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    header_of(aligned) = {raw, bytes};
    return aligned;
}

void release(void* memory) noexcept {
    if (memory != nullptr && !kept.keep(memory)) std::free(header_of(memory).raw);
}

}  // namespace fastann
