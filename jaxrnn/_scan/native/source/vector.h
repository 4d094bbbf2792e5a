// Vectors of as many numbers as a register of this instruction set holds, and small helpers. Code of one instruction set
// must not be linked into another's: here, and in the headers that include this one, all is in an unnamed namespace.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

using Real = JAXRNN_REAL;

#ifdef __AVX512F__
constexpr int kBytes = 64;
constexpr int kRows = 6;  // of a product at once: 6 times 4 sums, of 32 registers
#else
constexpr int kBytes = 32;
constexpr int kRows = 3;  // 3 times 4 sums, of 16 registers
#endif
constexpr int kLanes = kBytes / sizeof(Real);

using Integer = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;
typedef Real V __attribute__((vector_size(kBytes), aligned(sizeof(Real)), may_alias));
typedef Integer VI __attribute__((vector_size(kBytes), aligned(sizeof(Real)), may_alias));

#define JAXRNN_INLINE inline __attribute__((always_inline))

JAXRNN_INLINE V load(const Real* p) { return *reinterpret_cast<const V*>(p); }
JAXRNN_INLINE void store(Real* p, V v) { *reinterpret_cast<V*>(p) = v; }
JAXRNN_INLINE V broadcast(Real value) { return value - V{}; }

// The first n numbers, zeros after them; all lanes if n is larger.
JAXRNN_INLINE V load_first(const Real* p, int64_t n) {
  if (n >= kLanes) return load(p);
  Real lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}

JAXRNN_INLINE void store_first(Real* p, V v, int64_t n) {
  if (n >= kLanes) return store(p, v);
  Real lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

JAXRNN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
JAXRNN_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

inline int64_t vectors(int64_t n) { return (n + kLanes - 1) / kLanes; }
inline int64_t padded(int64_t n) { return vectors(n) * kLanes; }

inline void copy(Real* to, const Real* from, int64_t n) { std::memcpy(to, from, n * sizeof(Real)); }
inline void clear(Real* p, int64_t n) { std::memset(p, 0, n * sizeof(Real)); }

// Takes arrays one after the other from a block of memory; of null, it counts what they would take.
class Arrays {
 public:
  explicit Arrays(Real* block) : block_(block) {}
  Real* take(int64_t n) {
    Real* array = block_ ? block_ + taken_ : nullptr;
    taken_ += round_up(n, kAlign);
    return array;
  }
  int64_t taken() const { return taken_; }

 private:
  Real* block_;
  int64_t taken_ = 0;
};

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
