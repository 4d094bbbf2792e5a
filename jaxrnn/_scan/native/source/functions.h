// exp, sigma and tanh of vectors. NaN stays NaN.
//
// exp(x) = 2^n (1 + p), n the integer nearest to x / ln 2, p = exp(r) - 1 of the rest r = x - n ln 2 by a polynomial.
#pragma once

#include "coefficients.h"
#include "vector.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

template <class T>
struct Format;  // of floating-point numbers

template <>
struct Format<float> {
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kLeast = -87.0f;                         // exp is a normal number down to here
  static constexpr float kRound = 12582912.0f;                    // 3 * 2^22: adding it rounds to an integer
  static constexpr float kLn2High = 0.693145751953125f, kLn2Low = 1.42860682030941723e-06f;
};

template <>
struct Format<double> {
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kLeast = -708.0;
  static constexpr double kRound = 6755399441055744.0;            // 3 * 2^51
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
};

struct Exponential {
  V scale;  // 2^n
  V rest;   // p
};

// Of x <= 0, as its two parts.
JAXRNN_INLINE Exponential exponential(V x) {
  using F = Format<Real>;
  using C = Coefficients<Real>;
  x = x < F::kLeast ? broadcast(F::kLeast) : x;
  V shifted = x * Real(1.44269504088896340736) + F::kRound;
  V n = shifted - F::kRound;
  V r = x - n * F::kLn2High;
  r = r - n * F::kLn2Low;
  V q = broadcast(C::kTail[C::kDegree]);
#pragma GCC unroll 16
  for (int i = C::kDegree - 1; i >= 0; --i) q = q * r + C::kTail[i];
  VI exponent = (VI)shifted - (VI)broadcast(F::kRound) + F::kBias;
  return {(V)(exponent << F::kMantissa), q * (r * r) + r};
}

JAXRNN_INLINE V minus_absolute(V x) { return x > 0 ? -x : x; }

// 1 / (1 + exp(-x)); 0 below kLeast, where the clamped exp would not vanish.
JAXRNN_INLINE V sigmoid(V x) {
  Exponential e = exponential(minus_absolute(x));
  V small = e.scale * e.rest + e.scale;
  V large = 1 / (1 + small);
  V below = x < Format<Real>::kLeast ? V{} : small * large;
  return x < 0 ? below : large;
}

// (1 - exp(-2|x|)) / (1 + exp(-2|x|)), with the sign of x. 1 - exp is taken from its parts: exact near 0.
JAXRNN_INLINE V tanh(V x) {
  Exponential e = exponential(2 * minus_absolute(x));
  V less_one = e.scale * e.rest + (e.scale - 1);
  V size = less_one / (2 + less_one);  // negative
  return x > 0 ? -size : size;
}

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
