// Every subject, compiled for the instruction set whose file includes this one.
#include "../assign.hpp"
#include "../bounds.hpp"
#include "../duplicates.hpp"
#include "../gradient.hpp"
#include "../groups.hpp"
#include "../half.hpp"
#include "../inverted.hpp"
#include "../pairs.hpp"
#include "../project.hpp"
#include "../screen/few.hpp"
#include "../seeding.hpp"
#include "../sparse.hpp"
#include "../spread_search.hpp"
#include "../start.hpp"
#include "../sums.hpp"

namespace fastann {
namespace {

constexpr Table filled(const Screening* f32) {
    Table table{};
    table.f32 = f32;
    fill_assign(table);
    fill_bounds(table);
    fill_gradient(table);
    fill_groups(table);
    fill_project(table);
    fill_seeding(table);
    fill_start(table);
    fill_duplicates(table);
    fill_inverted(table);
    fill_sparse(table);
    fill_spread(table);
    fill_sums(table);
    fill_pairs(table);
    fill_half(table);
    return table;
}

}  // namespace
}  // namespace fastann
