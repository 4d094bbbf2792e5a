// c += a w^T, with weights as they lie, row by row: for so few rows of a that packing the weights does not pay.
#pragma once

#include <utility>

#include "vector.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

template <int... Lanes>
JAXRNN_INLINE V shuffle(V a, V b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, Lanes...);
#else
  return __builtin_shuffle(a, b, VI{Lanes...});
#endif
}

// Both vectors hold sums in groups of 2 kHalf lanes; the result holds them in groups of kHalf, a's and b's in turn.
template <int kHalf, int... Lanes>
JAXRNN_INLINE V fold(V a, V b, std::integer_sequence<int, Lanes...>) {
  constexpr auto from = [](int lane) {
    const int group = lane / kHalf;
    return group % 2 * kLanes + group / 2 * 2 * kHalf + lane % kHalf;
  };
  return shuffle<from(Lanes)...>(a, b) + shuffle<(from(Lanes) + kHalf)...>(a, b);
}

// Lane i of the result is the sum of sums[i].
template <int kHalf = kLanes / 2>
JAXRNN_INLINE V sum_each(V* sums) {
#pragma GCC unroll 8
  for (int i = 0; i < kHalf; ++i)
    sums[i] = fold<kHalf>(sums[i], sums[i + kHalf], std::make_integer_sequence<int, kLanes>());
  if constexpr (kHalf > 1) return sum_each<kHalf / 2>(sums);
  return sums[0];
}

constexpr int kTogether = 4;  // rows of w at once: few streams that the processor can foresee

// The products of a with kTogether rows of w, each as a vector of sums.
JAXRNN_INLINE void dots(const Real* a, const Real* const* row, int64_t depth, V* sums) {
  V even[kTogether] = {}, odd[kTogether] = {};
  int64_t k = 0;
  for (; k + 2 * kLanes <= depth; k += 2 * kLanes) {
    const V first = load(a + k), second = load(a + k + kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      even[i] += first * load(row[i] + k);
      odd[i] += second * load(row[i] + k + kLanes);
    }
  }
  for (; k < depth; k += kLanes) {
    const V factor = load_first(a + k, depth - k);
    for (int i = 0; i < kTogether; ++i) even[i] += factor * load_first(row[i] + k, depth - k);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kTogether; ++i) sums[i] = even[i] + odd[i];
}

// The products of a with kLanes rows of w, a lane each. Of `rows` fewer, the lanes beyond repeat the first.
inline V dots(const Real* a, const Real* w, int64_t depth, int64_t rows) {
  V sums[kLanes];
  for (int first = 0; first < kLanes; first += kTogether) {
    const Real* row[kTogether];
    for (int i = 0; i < kTogether; ++i) row[i] = w + (first + i < rows ? (first + i) * depth : 0);
    dots(a, row, depth, sums + first);
  }
  return sum_each(sums);
}

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
