// The module that Python imports: what the CPU can do, threads, and the bindings of each subject.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "../cpu.hpp"
#include "../pool.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace nb = nanobind;

namespace {

// Whether a signal's handler raised: asked in the calling thread of a run, which holds no GIL.
bool signalled() {
    const PyGILState_STATE before = fastann::with_gil([] { return PyGILState_Ensure(); });
    const bool raised = PyErr_CheckSignals() != 0;
    PyGILState_Release(before);
    return raised;
}

std::vector<std::string> available() {
    std::vector<std::string> names;
    for (const fastann::Level& one : fastann::levels()) {
        if (one.available) names.push_back(one.name);
    }
    return names;
}

}  // namespace

NB_MODULE(_core, m) {
    m.doc() = "The compiled core: arrays in, arrays out.";
    nb::set_leak_warnings(false);  // what lives until the process ends, as in a global, is no news to a user
    fastann::set_check(signalled);
    m.def("level", [] { return std::string(fastann::level().name); }, "Name of the instructions in use.");
    m.def("levels", available,
          "Names of the instructions that this CPU has, and this library was compiled for; best first.");
    m.def("use", fastann::use, nb::arg("name"), "Use other instructions from now on; False if they are not available.");
    m.def("threads", fastann::threads, "Most threads that loops called by this thread run on.");
    m.def("set_threads", fastann::set_threads, nb::arg("count"),
          "Set that; 0 is as many as there are cores. Returns what was set before.");
    m.def(
        "end_idle_workers", [] { fastann::unlocked(fastann::end_idle_workers); },
        "End the threads that have nothing to do: before a fork.");
    fastann::bind_assign(m);
    fastann::bind_groups(m);
    fastann::bind_gradient(m);
    fastann::bind_bounds(m);
    fastann::bind_half(m);
    fastann::bind_members(m);
    fastann::bind_pairs(m);
    fastann::bind_duplicates(m);
    fastann::bind_search(m);
    fastann::bind_sparse(m);
    fastann::bind_sums(m);
}
