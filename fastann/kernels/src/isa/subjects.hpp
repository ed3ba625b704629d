// Every subject, compiled for the instruction set whose file includes this one.
#include "../screen/few.hpp"
#include "../sums.hpp"

namespace fastann {
namespace {

constexpr Table filled(const Screening* f32) {
    Table table{};
    table.f32 = f32;
    fill_sums(table);
    return table;
}

}  // namespace
}  // namespace fastann
