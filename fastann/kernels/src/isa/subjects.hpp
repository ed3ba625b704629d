// Every subject, compiled for the instruction set whose file includes this one.
#include "../sums.hpp"

namespace fastann {
namespace {

constexpr Table filled() {
    Table table{};
    fill_sums(table);
    return table;
}

}  // namespace
}  // namespace fastann
