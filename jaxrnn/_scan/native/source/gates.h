// The cells: their gates, elementwise over hidden units, and the derivative.
//
// `forward` gets the sums a (of a gru, n's from x and from h apart), the state before the step, and gives h' and what the
// backward pass needs. `backward` gets that, and dh' (with dc' in dc), and gives da, the cotangent of the sums, dc of the
// step before, and what reaches dh of the step before elementwise.
#pragma once

#include "functions.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

struct Values {  // of one step, as the backward pass reads them
  const V* saved;
  V c_before, c, h_before, h;
};

// i, f, o = sigma, g = tanh, c' = f c + i g, h' = o tanh(c')
struct Lstm {
  static constexpr int kBlocks = 4, kSums = 4, kSaved = 4;
  static constexpr int kFromX[] = {0, 1, 2, 3};       // the block of the weights that each sum from x belongs to
  static constexpr int kFirstFromH = 0;               // sums from h are kBlocks sums from this one on, in torch's order
  static constexpr bool kHasC = true, kReadsH = false;

  explicit Lstm(Cell) {}

  JAXRNN_INLINE V forward(const V* a, V, V& c, V* saved) const {
    saved[0] = sigmoid(a[0]);
    saved[1] = sigmoid(a[1]);
    saved[2] = tanh(a[2]);
    saved[3] = sigmoid(a[3]);
    c = saved[1] * c + saved[0] * saved[2];
    return output(saved, c);
  }

  // h', or m of a projection, again.
  static JAXRNN_INLINE V output(const V* saved, V c) { return saved[3] * tanh(c); }

  JAXRNN_INLINE V backward(const Values& v, V dh, V& dc, V* da) const {
    const V i = v.saved[0], f = v.saved[1], g = v.saved[2], o = v.saved[3], tanh_c = tanh(v.c);
    const V d = dc + dh * o * (1 - tanh_c * tanh_c);
    da[0] = d * g * i * (1 - i);
    da[1] = d * v.c_before * f * (1 - f);
    da[2] = d * i * (1 - g * g);
    da[3] = dh * tanh_c * o * (1 - o);
    dc = d * f;
    return V{};
  }
};

// r, u = sigma, n = tanh(n_x + r n_h), h' = n + u (h - n); the sums are n_x, r, u, n_h: x adds to the first three and h
// to the last three
struct Gru {
  static constexpr int kBlocks = 3, kSums = 4, kSaved = 4;
  static constexpr int kFromX[] = {2, 0, 1};
  static constexpr int kFirstFromH = 1;
  static constexpr bool kHasC = false, kReadsH = true;

  explicit Gru(Cell) {}

  JAXRNN_INLINE V forward(const V* a, V h, V&, V* saved) const {
    const V r = sigmoid(a[1]), u = sigmoid(a[2]), n = tanh(a[0] + r * a[3]);
    saved[0] = r;
    saved[1] = u;
    saved[2] = n;
    saved[3] = a[3];
    return n + u * (h - n);
  }

  JAXRNN_INLINE V backward(const Values& v, V dh, V&, V* da) const {
    const V r = v.saved[0], u = v.saved[1], n = v.saved[2], n_h = v.saved[3];
    const V dn = dh * (1 - u) * (1 - n * n);
    da[0] = dn;
    da[1] = dn * n_h * r * (1 - r);
    da[2] = dh * (v.h_before - n) * u * (1 - u);
    da[3] = dn * r;
    return dh * u;
  }
};

// h' = tanh(a), or max(0, a)
struct Elman {
  static constexpr int kBlocks = 1, kSums = 1, kSaved = 0;
  static constexpr int kFromX[] = {0};
  static constexpr int kFirstFromH = 0;
  static constexpr bool kHasC = false, kReadsH = false;

  explicit Elman(Cell cell) : is_relu(cell == Cell::kRelu) {}

  JAXRNN_INLINE V forward(const V* a, V, V&, V*) const { return is_relu ? (a[0] < 0 ? V{} : a[0]) : tanh(a[0]); }

  JAXRNN_INLINE V backward(const Values& v, V dh, V&, V* da) const {
    da[0] = is_relu ? (v.h > 0 ? dh : V{}) : dh * (1 - v.h * v.h);
    return V{};
  }

  const bool is_relu;
};

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
