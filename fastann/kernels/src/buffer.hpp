// Scratch memory of a piece of work.
//
// Included by files that are compiled for one instruction set, hence the nameless namespace: an inline function that
// several files share is kept once by the linker, possibly in the version for a CPU that this one is not.
#pragma once

#include <cstdint>

namespace fastann {

// `bytes` of memory aligned to 64; throws std::bad_alloc.
void* allocate(int64_t bytes);
void release(void* memory) noexcept;

namespace {

// An array of `size` values, 64-byte aligned, not initialised unless a value to fill it with is given.
template <class T>
class Buffer {
 public:
    explicit Buffer(int64_t size) : data_(static_cast<T*>(allocate(size * static_cast<int64_t>(sizeof(T))))) {}
    Buffer(int64_t size, T value) : Buffer(size) {
        for (int64_t i = 0; i < size; i++) data_[i] = value;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(data_); }

    T* data() const { return data_; }
    T& operator[](int64_t i) const { return data_[i]; }
    operator T*() const { return data_; }

 private:
    T* data_;
};

}  // namespace
}  // namespace fastann
