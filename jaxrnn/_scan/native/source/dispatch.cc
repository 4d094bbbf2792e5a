#include "dispatch.h"

#include <cstdlib>
#include <cstring>

namespace jaxrnn {
namespace {

InstructionSet find() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  const char* wanted = std::getenv("JAXRNN_NATIVE_ISA");
  if (avx512 && !(wanted && std::strcmp(wanted, "avx2") == 0)) return InstructionSet::kAvx512;
  return avx2 ? InstructionSet::kAvx2 : InstructionSet::kNone;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet found = find();
  return found;
}

template <>
const Kernels<float>& kernels<float>(Cell cell) {
  return instruction_set() == InstructionSet::kAvx512 ? avx512_float::kernels(cell) : avx2_float::kernels(cell);
}

template <>
const Kernels<double>& kernels<double>(Cell cell) {
  return instruction_set() == InstructionSet::kAvx512 ? avx512_double::kernels(cell) : avx2_double::kernels(cell);
}

}  // namespace jaxrnn
