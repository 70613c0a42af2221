// The native module: its version, and what this processor can run.
//
// One build runs on every x86-64 (or other) machine, so instruction sets are found at run time,
// never assumed at compile time. The answer is printed and recorded with every run.
#include <nanobind/nanobind.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

// The widest instruction set that both the processor and the operating system allow.
const char* cpu_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // GCC 12 knows no name for AMX: CPUID leaf 7, sub-leaf 0, EDX bit 22 is AMX-BF16, bit 24 AMX-TILE.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    constexpr long arch_get_xcomp_supp = 0x1021;  // Linux >= 5.16
    unsigned long allowed = 0;
    const bool asked = syscall(SYS_arch_prctl, arch_get_xcomp_supp, &allowed) == 0;
    constexpr unsigned long tile_data = 1ul << 18;
    if ((edx & amx_bf16) && (edx & amx_tile) && asked && (allowed & tile_data)) return "amx-bf16";
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "generic";
}

}  // namespace

NB_MODULE(_rmbpo_fast_native, m) {
  m.attr("__version__") = RMBPO_FAST_VERSION;
  m.def("cpu_isa", &cpu_isa, "Widest usable instruction set: amx-bf16, avx512, avx2 or generic.");
}
