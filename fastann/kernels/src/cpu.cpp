#include "cpu.hpp"

#include <cstdint>
#include <cstdlib>

#include "screen/screenings.hpp"
#include "table.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#define FASTANN_X86 1
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#if defined(__linux__) && defined(FASTANN_X86)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastann {

namespace {

#ifdef FASTANN_X86

struct Registers {
    uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t part) {
    Registers r;
#ifdef _MSC_VER
    int out[4];
    __cpuidex(out, static_cast<int>(leaf), static_cast<int>(part));
    r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]),
         static_cast<uint32_t>(out[3])};
#else
    if (__get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d) == 0) r = Registers();
#endif
    return r;
}

// Which registers the operating system saves when it switches threads: without that, they must not be used.
uint64_t saved_by_system() {
    if ((cpuid(1, 0).c >> 27 & 1) == 0) return 0;  // no OSXSAVE
#ifdef _MSC_VER
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<uint64_t>(high) << 32 | low;
#endif
}

bool bit(uint32_t word, int i) { return (word >> i & 1) != 0; }

// Linux gives the tiles' 8 KiB of registers only to processes that ask. It refuses on old kernels, in sandboxes, and
// where a thread has a signal stack that is too small for them; so what was given is read back.
bool tiles_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
    constexpr long GET = 0x1022, REQUEST = 0x1023, TILES = 18;  // ARCH_*_XCOMP_PERM, XFEATURE_XTILEDATA
    if (syscall(SYS_arch_prctl, REQUEST, TILES) != 0) return false;
    unsigned long given = 0;
    return syscall(SYS_arch_prctl, GET, &given) == 0 && (given >> TILES & 1) != 0;
#else
    return false;
#endif
}

struct Features {
    bool avx2 = false, avx512 = false, vnni = false, avxvnni = false, amx = false;
};

// An instruction set is a group of bits, each of which is asked for: virtual machines show some without the others.
Features features() {
    Features f;
    const uint64_t saved = saved_by_system();
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0), more = cpuid(7, 1);
    const bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xe6) == 0xe6;
    f.avx2 = ymm && bit(one.c, 28) && bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5) && bit(seven.b, 8);
    f.avx512 = f.avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 28) && bit(seven.b, 30) &&
               bit(seven.b, 31);
    f.vnni = f.avx512 && bit(seven.c, 11);
    f.avxvnni = f.avx2 && bit(more.a, 4);
    f.amx = f.avx512 && (saved & 0x60000) == 0x60000 && bit(seven.d, 24) && bit(seven.d, 22) && tiles_permitted();
    return f;
}

#endif

// The compiled levels, best first. A level whose file was left out, as the compiler lacks it, is not listed.
std::vector<Level> compiled() {
    std::vector<Level> all;
#ifdef FASTANN_X86
    const Features f = features();
#ifdef FASTANN_HAS_AVX512
#ifdef FASTANN_HAS_VNNI
    const Dots wide = f.vnni ? int8_dots : nullptr;
#else
    const Dots wide = nullptr;
#endif
#ifdef FASTANN_HAS_AMX
    all.push_back({"amx", &avx512_table, &bf16_screening, f.amx, wide});
#endif
#ifdef FASTANN_HAS_VNNI
    all.push_back({"vnni", &avx512_table, &int8_screening, f.vnni, wide});
#endif
    all.push_back({"avx512", &avx512_table, &int7_wide_screening, f.avx512});
    all.push_back({"avx512-f32", &avx512_table, nullptr, f.avx512});
#endif
#ifdef FASTANN_HAS_AVX2
#ifdef FASTANN_HAS_AVXVNNI
    all.push_back({"avxvnni", &avx2_table, &int8_avx_screening, f.avxvnni, int8_avx_dots});
#endif
    all.push_back({"avx2", &avx2_table, &int7_screening, f.avx2});
    all.push_back({"avx2-f32", &avx2_table, nullptr, f.avx2});
#endif
#endif
#ifdef FASTANN_HAS_NEON
    all.push_back({"neon", &neon_table, nullptr, true});
#endif
    all.push_back({"baseline", &baseline_table, nullptr, true});
    all.push_back({"int8-twin", &baseline_table, &int8_twin_screening, true});
    all.push_back({"int7-twin", &baseline_table, &int7_twin_screening, true});
    all.push_back({"bf16-twin", &baseline_table, &bf16_twin_screening, true});
    return all;
}

std::vector<Level>& all_levels() {
    static std::vector<Level>* list = new std::vector<Level>(compiled());
    return *list;
}

const Level* best() {
    for (const Level& one : all_levels()) {
        if (one.available) return &one;
    }
    return &all_levels().back();
}

const Level*& chosen() {
    static const Level* one = best();
    return one;
}

}  // namespace

const std::vector<Level>& levels() { return all_levels(); }

const Level& level() { return *chosen(); }

bool use(const std::string& name) {
    for (const Level& one : all_levels()) {
        if (name == one.name && one.available) {
            chosen() = &one;
            return true;
        }
    }
    return false;
}

const Table& table() { return *chosen()->table; }

}  // namespace fastann
