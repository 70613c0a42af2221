// Python's arguments as the operations' structs have them: addresses, networks, optimisers.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "levels.h"

namespace nb = nanobind;

namespace python {

void bind_steps(nb::module_& m);  // native_steps.cpp

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

// Sizes of the layers, then addresses per layer.
using Network = std::tuple<std::vector<long>, Addresses, Addresses>;

// An optimiser as Python has it: per tensor its size, addresses of it, of both running means and of
// its step counter, weight decay; then lr, beta1, beta2, eps.
using Optimizer = std::tuple<std::vector<long>, Addresses, Addresses, Addresses, Addresses,
                             std::vector<double>, std::vector<double>>;

// One step of it. The counters go on when this is made.
struct AdamStep {
  std::vector<rmbpo::AdamParameter> parameters;
  rmbpo::Adam op{};

  AdamStep(const Optimizer& optimizer, int threads) {
    const auto& [sizes, params, firsts, seconds, steps, decays, numbers] = optimizer;
    const double lr = numbers.at(0), beta1 = numbers.at(1), beta2 = numbers.at(2);
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      float& step = *at<float*>(steps.at(p));
      step += 1.0f;
      rmbpo::AdamParameter one{};
      one.size = sizes[p];
      one.parameter = at<float*>(params.at(p));
      one.first = at<float*>(firsts.at(p));
      one.second = at<float*>(seconds.at(p));
      one.step_size = (float)(lr / (1.0 - std::pow(beta1, step)));
      one.root_correction2 = (float)(1.0 / std::sqrt(1.0 - std::pow(beta2, step)));
      one.weight_decay = (float)decays.at(p);
      parameters.push_back(one);
    }
    op.count = (long)parameters.size();
    op.parameters = parameters.data();
    op.new1 = (float)(1.0 - beta1);
    op.beta2 = (float)beta2;
    op.new2 = (float)(1.0 - beta2);
    op.eps = (float)numbers.at(3);
    op.threads = threads;
  }
};

}  // namespace python
