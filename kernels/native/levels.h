// The operations for one instruction set, and which of them run.
#pragma once

#include <string>
#include <vector>

#include "operations.h"

namespace rmbpo {

struct Level {
  const char* name;
#define RMBPO_FIELD(name, Argument) void (*name)(const Argument&);
  RMBPO_OPERATIONS(RMBPO_FIELD)
#undef RMBPO_FIELD
};

// Widest instruction set that both the processor and the operating system allow: amx, avx512bf16,
// avx512, avx2 or generic.
const char* cpu_isa();

// Those that this processor can run, widest first; last a model of `amx`, which any can.
const std::vector<Level>& usable_levels();

// Its operations run; at first the widest.
const Level& level();

// Throws std::invalid_argument unless `name` is usable.
void use_level(const std::string& name);

}  // namespace rmbpo
