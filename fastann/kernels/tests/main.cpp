// Tests of the core without Python: for sanitizers, and for machines that are emulated. With --no-fork no processes are
// forked, which neither ThreadSanitizer nor QEMU stands beside other threads.
#include <cstring>
#include <map>

#include "../src/cpu.hpp"
#include "../src/pool.hpp"
#include "check.hpp"

void same_bits(const std::string& name, const void* data, size_t bytes) {
    static std::map<std::string, std::vector<char>> first;
    const char* from = static_cast<const char*>(data);
    const auto& known = first.emplace(name, std::vector<char>(from, from + bytes)).first->second;
    if (known.size() == bytes && std::memcmp(known.data(), from, bytes) == 0) return;
    std::fprintf(stderr, "%s by %s on %d threads has other bits\n", name.c_str(), fastann::level().name,
                 fastann::threads());
    std::exit(1);
}

int main(int count, char** words) {
    test_pool(count < 2 || std::strcmp(words[1], "--no-fork") != 0);
    std::printf("pool: right\n");
    for (const fastann::Level& level : fastann::levels()) {
        if (!level.available) continue;
        CHECK(fastann::use(level.name));
        for (const int threads : {3, 2, 1}) {
            fastann::set_threads(threads);
            test_sums();
            test_pairs();
            test_groups();
            test_visits();
            test_searches();
            test_duplicates();
        }
        std::printf("%s: right\n", level.name);
        std::fflush(stdout);
    }
    CHECK(!fastann::use("none"));
    return 0;
}
