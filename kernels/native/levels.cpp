#include "levels.h"

#include <stdexcept>

namespace rmbpo {
namespace {

#define RMBPO_ENTRY(name, Argument) in::name,
#define RMBPO_LEVEL(isa)           \
  [] {                             \
    namespace in = rmbpo::isa;     \
    return Level{#isa, RMBPO_OPERATIONS(RMBPO_ENTRY)}; \
  }()

std::vector<Level> find_levels() {
  std::vector<Level> levels;
#if defined(__x86_64__)
  const std::string widest = cpu_isa();
  if (widest == "avx512bf16") levels.push_back(RMBPO_LEVEL(avx512bf16));
  if (widest == "avx512bf16" || widest == "avx512") levels.push_back(RMBPO_LEVEL(avx512));
  if (widest != "generic") levels.push_back(RMBPO_LEVEL(avx2));
#endif
  levels.push_back(RMBPO_LEVEL(generic));
  return levels;
}

const Level*& active() {
  static const Level* level = &usable_levels().front();
  return level;
}

}  // namespace

const char* cpu_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    return __builtin_cpu_supports("avx512bf16") ? "avx512bf16" : "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "generic";
}

const std::vector<Level>& usable_levels() {
  static const std::vector<Level> levels = find_levels();
  return levels;
}

const Level& level() { return *active(); }

void use_level(const std::string& name) {
  std::string usable;
  for (const Level& one : usable_levels()) {
    if (name == one.name) {
      active() = &one;
      return;
    }
    usable += std::string(usable.empty() ? "" : ", ") + one.name;
  }
  throw std::invalid_argument("level: expected one of " + usable + ", found " + name);
}

}  // namespace rmbpo
