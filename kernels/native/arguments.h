// What the module's two files share: Python's arguments as the operations' structs have them.
//
// Every function takes its arguments by name only: two addresses that change places would corrupt
// memory.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <vector>

#include "levels.h"

namespace nb = nanobind;

namespace bindings {

template <typename T>
T at(std::uintptr_t address) {
  return reinterpret_cast<T>(address);
}

using Address = std::uintptr_t;
using Addresses = std::vector<Address>;

template <typename T>
T const* list(const Addresses& addresses) {  // a vector of addresses, read as one of pointers
  static_assert(sizeof(T) == sizeof(Address));
  return reinterpret_cast<T const*>(addresses.data());
}

inline rmbpo::Networks networks(long ensemble, long rows, const std::vector<long>& sizes, Address x,
                                long stride_xe, long stride_xm, const Addresses& weights,
                                bool swish, bool bf16, int threads) {
  rmbpo::Networks net{};
  net.ensemble = ensemble;
  net.rows = rows;
  net.layers = (long)sizes.size() - 1;
  net.sizes = sizes.data();
  net.x = at<const float*>(x);
  net.stride_xe = stride_xe;
  net.stride_xm = stride_xm;
  net.weights = list<const float*>(weights);
  net.swish = swish;
  net.bf16 = bf16;
  net.threads = threads;
  return net;
}

// Defines m.name(...) for the function of this name, with its arguments' names.
#define RMBPO_BIND(m, name, ...) \
  m.def(#name, &name, nb::call_guard<nb::gil_scoped_release>(), nb::kw_only(), __VA_ARGS__)

}  // namespace bindings
