// Which instruction set runs.
#pragma once

#include "kernels.h"

namespace jaxrnn {

enum class InstructionSet { kNone = 0, kAvx2 = 1, kAvx512 = 2 };

// The best that this processor has, or JAXRNN_NATIVE_ISA, "avx2" or "avx512", names if the processor has it.
InstructionSet instruction_set();

template <class Real>
const Kernels<Real>& kernels(Cell cell);
template <>
const Kernels<float>& kernels<float>(Cell cell);
template <>
const Kernels<double>& kernels<double>(Cell cell);

}  // namespace jaxrnn
