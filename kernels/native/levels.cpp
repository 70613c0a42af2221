#include "levels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
  const Level known[] = {RMBPO_LEVEL(amx), RMBPO_LEVEL(avx512bf16), RMBPO_LEVEL(avx512),
                         RMBPO_LEVEL(avx2)};
  for (const Level& one : known)
    if (!levels.empty() || widest == one.name) levels.push_back(one);
#endif
  levels.push_back(RMBPO_LEVEL(generic));
  levels.push_back(RMBPO_LEVEL(amx_emulated));  // slow, for tests
  return levels;
}

#if defined(__x86_64__)
// Whether this process may use tiles: the kernel gives their 8 KB of state to those who ask.
bool tiles_are_allowed() {
#if defined(__linux__)
  constexpr long ask_for_state = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool allowed = syscall(SYS_arch_prctl, ask_for_state, tile_data) == 0;
  return allowed;
#else
  return false;
#endif
}
#endif

const Level*& active() {
  static const Level* level = &usable_levels().front();
  return level;
}

}  // namespace

const char* cpu_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    if (!__builtin_cpu_supports("avx512bf16")) return "avx512";
    return __builtin_cpu_supports("amx-bf16") && tiles_are_allowed() ? "amx" : "avx512bf16";
  }
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
