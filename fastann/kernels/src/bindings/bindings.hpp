// What each file of bindings adds to the module.
#pragma once

#include <nanobind/nanobind.h>

namespace fastann {

void bind_assign(nanobind::module_& m);
void bind_groups(nanobind::module_& m);
void bind_gradient(nanobind::module_& m);
void bind_bounds(nanobind::module_& m);
void bind_half(nanobind::module_& m);
void bind_members(nanobind::module_& m);
void bind_pairs(nanobind::module_& m);
void bind_duplicates(nanobind::module_& m);
void bind_search(nanobind::module_& m);
void bind_sparse(nanobind::module_& m);
void bind_sums(nanobind::module_& m);

}  // namespace fastann
