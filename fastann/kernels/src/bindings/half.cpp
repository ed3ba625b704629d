#include <nanobind/stl/string_view.h>

#include "../cpu.hpp"
#include "../table.hpp"
#include "arrays.hpp"
#include "bindings.hpp"

namespace fastann {

namespace {

nb::object widened(nb::handle block) {
    const nb::object numpy = nb::module_::import_("numpy"), flags = block.attr("flags"), dtype = block.attr("dtype");
    const bool plain = nb::cast<bool>(flags.attr("c_contiguous")) && nb::cast<bool>(dtype.attr("isnative")) &&
                       nb::cast<std::string_view>(dtype.attr("kind")) == "f" &&
                       nb::cast<int>(dtype.attr("itemsize")) == 2;
    if (!plain) return numpy.attr("ascontiguousarray")(block, "f4");
    const nb::object out = numpy.attr("empty")(block.attr("shape"), "f4");
    const nb::object bits_ = block.attr("reshape")(-1).attr("view")("u2"), out_ = out.attr("reshape")(-1);
    const Vector<const uint16_t> bits(bits_, "block");
    const Vector<float> into(out_, "out");
    unlocked([&] { table().widen(bits, bits.size(), into); });
    return out;
}

}  // namespace

void bind_half(nb::module_& m) {
    m.def("widened", widened, nb::arg("block"), nb::sig("def widened(block: NDArray[Any]) -> NDArray[np.float32]"),
          "Convert a float16 array [n, d], of any byte order and layout, to a new C-ordered float32 array.");
}

}  // namespace fastann
