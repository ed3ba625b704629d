// Tests of the core without Python: for sanitizers, and for machines that are emulated.
#include <cstdint>

#include "../src/cpu.hpp"
#include "check.hpp"

int main() {
    test_pool();
    std::printf("pool: right\n");
    for (const fastann::Level& level : fastann::levels()) {
        if (!level.available) continue;
        CHECK(fastann::use(level.name));
        test_loops();
        test_near();
        test_searches();
        std::printf("%s: right\n", level.name);
    }
    return 0;
}
