// Arrays as they come from Python: checked once, with a message that names the argument; and new ones to fill.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <thread>

#include "../pool.hpp"
#include "../rows.hpp"

namespace fastann {

namespace nb = nanobind;

// A C-contiguous array of T in N dimensions that Python owns; T is const where it is only read. None is an empty array
// if `optional`: then `given()` is false and `data()` null.
template <class T, int N>
class Array {
 public:
    Array(nb::handle object, const char* name, bool optional = false) : name_(name) {
        if (optional && object.is_none()) return;
        const int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE);
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
            PyErr_Clear();
            wrong(object);
        }
        given_ = true;
        if (view_.ndim != N || view_.itemsize != static_cast<Py_ssize_t>(sizeof(T)) || !same_kind(view_.format))
            wrong(object);
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    ~Array() {
        if (given_) PyBuffer_Release(&view_);
    }

    bool given() const { return given_; }
    T* data() const { return given_ ? static_cast<T*>(view_.buf) : nullptr; }
    operator T*() const { return data(); }
    int64_t size(int axis = 0) const { return given_ ? static_cast<int64_t>(view_.shape[axis]) : 0; }
    // Of all axes together.
    int64_t values() const { return given_ ? static_cast<int64_t>(view_.len / view_.itemsize) : 0; }
    const char* name() const { return name_; }

    // Refuse another size than `wanted` along an axis: "labels has 3 entries, 5 are needed: one for each row of x".
    const Array& sized(int64_t wanted, const char* why, int axis = 0) const {
        if (given_ && size(axis) != wanted) {
            const std::string what = N == 1 ? "entries" : axis == 0 ? "rows" : "columns";
            throw nb::value_error((std::string(name_) + " has " + std::to_string(size(axis)) + " " + what + ", " +
                                   std::to_string(wanted) + " are needed: " + why)
                                      .c_str());
        }
        return *this;
    }

 private:
    using Value = std::remove_const_t<T>;

    static const char* dtype() {
        if (std::is_same_v<Value, bool>) return "bool";
        if (std::is_floating_point_v<Value>) return sizeof(T) == 4 ? "float32" : "float64";
        if (std::is_signed_v<Value>)
            return sizeof(T) == 1 ? "int8" : sizeof(T) == 2 ? "int16" : sizeof(T) == 4 ? "int32" : "int64";
        return sizeof(T) == 1 ? "uint8" : sizeof(T) == 2 ? "uint16" : sizeof(T) == 4 ? "uint32" : "uint64";
    }
    static bool same_kind(const char* format) {
        const char c = format == nullptr                                          ? 'B'
                       : format[0] == '@' || format[0] == '=' || format[0] == '<' ? format[1]
                                                                                  : format[0];
        if (std::is_same_v<Value, bool>) return c == '?';
        if (std::is_floating_point_v<Value>) return c == 'f' || c == 'd';
        return std::string(std::is_signed_v<Value> ? "bhilq" : "BHILQ").find(c) != std::string::npos;
    }
    static std::string text(const nb::object& value) { return nb::str(nb::handle(value)).c_str(); }
    [[noreturn]] void wrong(nb::handle object) {
        if (given_) PyBuffer_Release(&view_);
        given_ = false;
        std::string got = text(object.type().attr("__name__"));
        if (nb::hasattr(object, "dtype") && nb::hasattr(object, "flags")) {
            got = text(object.attr("dtype")) + " " + text(object.attr("shape"));
            if (!std::is_const_v<T> && !nb::cast<bool>(object.attr("flags").attr("writeable"))) got += ", read-only";
            if (!nb::cast<bool>(object.attr("flags").attr("c_contiguous"))) got += ", not contiguous";
        }
        const std::string message = std::string(name_) + " must be a C-contiguous" +
                                    (std::is_const_v<T> ? "" : ", writable") + " array of " + dtype() + " with " +
                                    std::to_string(N) + " dimension" + (N == 1 ? "" : "s") + ", got " + got;
        throw nb::type_error(message.c_str());
    }

    const char* name_;
    Py_buffer view_{};
    bool given_ = false;
};

template <class T>
using Vector = Array<T, 1>;
template <class T>
using Matrix = Array<T, 2>;

// Refuse indices outside of [low, high): "labels has 7 at 3, but there are 5 centroids".
inline void within(const Vector<const int32_t>& ids, int64_t low, int64_t high, const char* what) {
    const int32_t* at = ids.data();
    const uint32_t first = static_cast<uint32_t>(low);
    const uint32_t last = static_cast<uint32_t>(high <= INT32_MAX ? high - 1 : INT32_MAX);
    uint32_t outside = 0;  // its sign bit; without a branch, so that many are looked at together
    for (int64_t i = 0; i < ids.size(); i++) {
        const uint32_t v = static_cast<uint32_t>(at[i]);
        outside |= (v - first) | (last - v);
    }
    for (int64_t i = 0; outside >> 31 != 0 && i < ids.size(); i++) {
        if (at[i] >= low && at[i] < high) continue;
        throw nb::value_error((std::string(ids.name()) + " has " + std::to_string(at[i]) + " at " + std::to_string(i) +
                               ", but there are " + std::to_string(high) + " " + what)
                                  .c_str());
    }
}

// A new NumPy array, not initialised: `array` is what Python gets.
template <class T, int N>
struct New {
    nb::object array;
    Array<T, N> view;

    template <class... Sizes>
    explicit New(Sizes... sizes)
        : array(nb::module_::import_("numpy").attr("empty")(nb::make_tuple(static_cast<int64_t>(sizes)...), code())),
          view(array, "result") {}
    T* data() const { return view.data(); }
    operator T*() const { return view.data(); }

 private:
    static const char* code() {
        if (std::is_same_v<T, bool>) return "?";
        if (std::is_floating_point_v<T>) return sizeof(T) == 4 ? "f4" : "f8";
        if (std::is_signed_v<T>) return sizeof(T) == 1 ? "i1" : sizeof(T) == 2 ? "i2" : sizeof(T) == 4 ? "i4" : "i8";
        return sizeof(T) == 1 ? "u1" : sizeof(T) == 2 ? "u2" : sizeof(T) == 4 ? "u4" : "u8";
    }
};

inline bool is_csr(nb::handle object) {
    return nb::hasattr(object, "indptr") && nb::hasattr(object, "format") &&
           std::string(nb::str(nb::handle(object.attr("format"))).c_str()) == "csr";
}

// Refuse places of `n` sparse rows that do not ascend, or are outside of the values that are stored.
inline void check_places(const Vector<const int64_t>& places, int64_t n, int64_t stored, const char* name) {
    bool sound = places.size() == n + 1 && places[0] >= 0;
    for (int64_t i = 0; sound && i < n; i++) sound = places[i] <= places[i + 1];
    if (!sound || places[n] > stored) {
        throw nb::value_error(
            (std::string(name) + ".indptr must ascend, one for each row and the end, within what is stored").c_str());
    }
}

// Rows from Python: a float32 array [n, d], or a float32 SciPy CSR matrix, whose values are not copied.
class Table2 {
 public:
    Table2(nb::handle object, const char* name)
        : sparse_(nb::hasattr(object, "indptr")),
          csr_(is_csr(object)),
          name_(name),
          indices_(sparse_ ? as(object.attr("indices"), "i4") : nb::none()),
          indptr_(sparse_ ? as(object.attr("indptr"), "i8") : nb::none()),
          dense(sparse_ ? nb::handle(nb::none()) : object, name, sparse_),
          values_(sparse_ ? nb::object(object.attr("data")) : nb::none(), name, !sparse_),
          columns_(indices_, name, !sparse_),
          places_(indptr_, name, !sparse_) {
        if (sparse_) {
            const nb::object shape = object.attr("shape");
            rows = {values_.data(), nb::cast<int64_t>(shape[0]), nb::cast<int64_t>(shape[1]), columns_.data(),
                    places_.data()};
        } else {
            rows = {dense.data(), dense.size(0), dense.size(1)};
        }
    }
    operator const Rows&() const { return rows; }

    // Refuse dense rows, other formats than CSR, and places or columns outside of the matrix.
    const Table2& compressed() const {
        placed();
        within(columns_, 0, rows.d, "columns");
        return *this;
    }
    // Refuse the same, but for columns: for loops that read few rows, and look at the columns of these.
    const Table2& placed() const {
        if (!csr_) {
            throw nb::type_error((std::string(name_) + " must be a CSR matrix of float32").c_str());
        }
        check_places(places_, rows.n, values_.size() < columns_.size() ? values_.size() : columns_.size(), name_);
        return *this;
    }
    // Refuse the same, but for dense rows.
    const Table2& sound() const { return sparse_ ? compressed() : *this; }

 private:
    static nb::object as(nb::handle array, const char* code) {
        return array.attr("astype")(code, nb::arg("copy") = false);
    }
    bool sparse_, csr_;
    const char* name_;
    nb::object indices_, indptr_;

 public:
    Matrix<const float> dense;

 private:
    Vector<const float> values_;
    Vector<const int32_t> columns_;
    Vector<const int64_t> places_;

 public:
    Rows rows{};
};

// Take the GIL by `take`. Once the program is over, Python ends a thread that wants it by unwinding its stack, which
// may not go through the frames of C++: the thread waits for the end of the process instead.
template <class Take>
auto with_gil(const Take& take) {
    try {
        return take();
    } catch (...) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

// Run `work` without the GIL; Ctrl-C in it becomes Python's exception.
template <class Work>
void unlocked(const Work& work) {
    std::exception_ptr error;
    PyThreadState* state = PyEval_SaveThread();
    try {
        work();
    } catch (...) {
        error = std::current_exception();
    }
    with_gil([&] { PyEval_RestoreThread(state); });
    if (!error) return;
    try {
        std::rethrow_exception(error);
    } catch (const Interrupted&) {
        throw nb::python_error();
    }
}

}  // namespace fastann
