// The backward pass: step by step the cotangent da of the sums and the state's; for a block of time steps at once what
// they give for the weights, dW = da^T [x, h], and for the inputs, dx = da W_ih.
#pragma once

#include "gates.h"
#include "product.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

constexpr int64_t kBlockRows = 128;  // of da that dW is formed of at once

// Where things lie. A row of da has kSums blocks of padded(H) numbers: those from x come first, those from h last.
template <class Gates>
struct BackwardLayout {
  explicit BackwardLayout(const Backward<Real>& b)
      : b(b),
        width(padded(b.H)),
        depth(Gates::kBlocks * width),
        from_h{depth, b.R},
        from_x{depth, b.dx ? b.I : 0},
        from_g{b.w_hr ? b.R : 0, b.w_hr ? b.H : 0},
        gradient_row(depth + kLanes) {}

  int64_t size() const { return from_h.size() + from_x.size() + from_g.size(); }
  int64_t parts() const { return from_h.count() + from_x.count() + from_g.count(); }

  const Real* packed_h(const Real* packed) const { return packed; }
  const Real* packed_x(const Real* packed) const { return packed + from_h.size(); }
  const Real* packed_g(const Real* packed) const { return packed + from_h.size() + from_x.size(); }

  void pack(int64_t part, Real* packed) const {
    if (part < from_h.count()) return pack_weight(b.w_hh, false, from_h, part, packed);
    part -= from_h.count();
    if (part < from_x.count()) return pack_weight(b.w_ih, true, from_x, part, packed + from_h.size());
    pack_panel(b.w_hr, b.R, from_g, part - from_x.count(), packed + from_h.size() + from_x.size());
  }

  // The wanted gradients of the weights from some rows: (I, depth), (R, depth), (kSums, width), (R, width).
  int64_t partial_x() const { return 0; }
  int64_t partial_h() const { return b.dw_ih ? round_up(b.I * gradient_row, kAlign) : 0; }
  int64_t partial_bias() const { return partial_h() + (b.dw_hh ? round_up(b.R * gradient_row, kAlign) : 0); }
  int64_t partial_g() const { return partial_bias() + (has_bias() ? round_up(Gates::kSums * width, kAlign) : 0); }
  int64_t partial() const { return partial_g() + (b.dw_hr ? round_up(b.R * width, kAlign) : 0); }
  bool has_bias() const { return b.db_ih || b.db_hh; }

  const Backward<Real>& b;
  const int64_t width, depth;
  const Panels from_h, from_x, from_g;  // da -> dh, da -> dx, cotangent of h -> that of m
  const int64_t gradient_row;           // not a power of 2, so that a column's numbers do not share a line of the cache

 private:
  // Rows of a panel: those of H units, zeros up to `width`, gate by gate.
  void pack_weight(const Real* weight, bool is_from_x, const Panels& panels, int64_t panel, Real* packed) const {
    const int64_t row = panels.width(panel) * kLanes;
    Real* to = packed + panels.offset(panel);
    for (int64_t j = 0; j < Gates::kBlocks; ++j) {
      const int64_t block = is_from_x ? Gates::kFromX[j] : j;
      pack_rows(weight + block * b.H * panels.columns, b.H, panels, panel, to);
      to += b.H * row;
      clear(to, (width - b.H) * row);
      to += (width - b.H) * row;
    }
  }

  void pack_panel(const Real* weight, int64_t rows, const Panels& panels, int64_t panel, Real* packed) const {
    pack_rows(weight, rows, panels, panel, packed + panels.offset(panel));
  }

  static void pack_rows(const Real* weight, int64_t rows, const Panels& panels, int64_t panel, Real* to) {
    const int64_t row = panels.width(panel) * kLanes, first = panel * kColumns * kLanes;
    const int64_t exist = smaller(row, panels.columns - first);
    for (int64_t i = 0; i < rows; ++i, to += row) {
      copy(to, weight + i * panels.columns + first, exist);
      clear(to + exist, row - exist);
    }
  }
};

template <class Gates>
class BackwardPass {
 public:
  // Of `rows` rows of the batch. Without a block of memory it knows its sizes alone.
  BackwardPass(const Backward<Real>& b, int64_t rows, Real* scratch)
      : layout_(b),
        rows_(rows),
        steps_(larger(1, smaller(b.T, kBlockRows / larger(1, rows)))),
        block_(steps_ * rows),
        da_row_(Gates::kSums * layout_.width + kLanes),
        h_row_(padded(b.R)),
        x_row_(padded(b.I)),
        arrays_(scratch) {
    da_ = arrays_.take(block_ * da_row_);
    x_ = b.dw_ih ? arrays_.take(round_up(b.I, kRows) * block_) : nullptr;
    h_ = b.dw_hh ? arrays_.take(round_up(b.R, kRows) * block_) : nullptr;
    dh_ = arrays_.take(rows * h_row_);
    dc_ = Gates::kHasC ? arrays_.take(rows * layout_.width) : nullptr;
    dx_ = b.dx ? arrays_.take(block_ * x_row_) : nullptr;
    m_ = b.dw_hr ? arrays_.take(block_ * layout_.width) : nullptr;
    dm_ = b.w_hr ? arrays_.take(rows * layout_.width) : nullptr;
    g_ = b.dw_hr ? arrays_.take(round_up(b.R, kRows) * block_) : nullptr;
  }

  int64_t scratch() const { return arrays_.taken(); }

  void run(const Backward<Real>& b, const Real* packed, Real* partial, int64_t begin) {
    clear(partial, layout_.partial());
    load_cotangents(b, begin);
    for (int64_t end = b.T; end > 0; end -= steps_) {
      const int64_t first = larger(0, end - steps_);
      for (int64_t s = end - 1; s >= first; --s) step(b, packed, begin, s, (s - first) * rows_);
      for (int64_t s = first; s < end; ++s) group_inputs(b, begin, s, (s - first) * rows_);
      add_gradients(b, partial, (end - first) * rows_);
      if (b.dx) write_dx(b, packed, begin, first, end - first);
    }
    for (int64_t r = 0; r < rows_; ++r) {
      copy(b.dh_0 + (begin + r) * b.R, dh_ + r * h_row_, b.R);
      if (Gates::kHasC) copy(b.dc_0 + (begin + r) * b.H, dc_ + r * layout_.width, b.H);
    }
  }

 private:
  static bool counts(const Sequence<Real>& s, int64_t step, int64_t row) {
    return !s.active || s.active[time(s, step) * s.B + row];
  }

  // The state before a step is that after the last one before it that counts, or the initial one. Of a step that does not
  // count itself: its own, zeros, so that all steps together are walked over once.
  static const Real* before(const Sequence<Real>& s, const Real* states, const Real* initial, int64_t width, int64_t step,
                            int64_t row) {
    if (counts(s, step, row)) {
      do --step;
      while (step >= 0 && !counts(s, step, row));
    }
    return step < 0 ? initial + row * width : states + (time(s, step) * s.B + row) * width;
  }

  void load_cotangents(const Backward<Real>& b, int64_t begin) {
    clear(dh_, rows_ * h_row_);
    if (Gates::kHasC) clear(dc_, rows_ * layout_.width);
    for (int64_t r = 0; r < rows_; ++r) {
      copy(dh_ + r * h_row_, b.d_h_T + (begin + r) * b.R, b.R);
      if (Gates::kHasC) copy(dc_ + r * layout_.width, b.d_c_T + (begin + r) * b.H, b.H);
    }
  }

  // One step back: dh and dc become those before step s, and rows `at` ... of the block get its da.
  void step(const Backward<Real>& b, const Real* packed, int64_t begin, int64_t s, int64_t at) {
    const int64_t t = time(b, s);
    for (int64_t r = 0; r < rows_; ++r) {
      if (!counts(b, s, begin + r)) continue;
      add(dh_ + r * h_row_, b.d_ys + (t * b.B + begin + r) * b.R, b.R);
      if (Gates::kHasC && b.d_cs) add(dc_ + r * layout_.width, b.d_cs + (t * b.B + begin + r) * b.H, b.H);
    }
    if (b.w_hr) {
      if (b.dw_hr) group_columns(dh_, h_row_, rows_, b.R, g_ + at * kRows, block_);
      clear(dm_, rows_ * layout_.width);
      multiply_packed(rows_, dh_, h_row_, layout_.packed_g(packed), layout_.from_g, dm_, layout_.width);
    }
    for (int64_t r = 0; r < rows_; ++r) {
      Real* da = da_ + (at + r) * da_row_;
      if (counts(b, s, begin + r)) {
        gates(b, s, t, begin, r, da, at);
        if (b.w_hr) clear(dh_ + r * h_row_, h_row_);
      } else {
        clear(da, Gates::kSums * layout_.width);
        if (b.dw_hr) clear(m_ + (at + r) * layout_.width, layout_.width);
      }
    }
    const Real* from_h = da_ + at * da_row_ + Gates::kFirstFromH * layout_.width;
    multiply_packed(rows_, from_h, da_row_, layout_.packed_h(packed), layout_.from_h, dh_, h_row_);
  }

  // Row r of the batch's part at step s: da, and in place dc and what reaches dh elementwise.
  void gates(const Backward<Real>& b, int64_t s, int64_t t, int64_t begin, int64_t r, Real* da, int64_t at) {
    const Gates gates(b.cell);
    const int64_t row = begin + r, here = t * b.B + row, width = layout_.width;
    const Real* saved = Gates::kSaved ? b.saved + here * Gates::kSaved * b.H : nullptr;
    const Real* h_before = Gates::kReadsH ? before(b, b.ys, b.h_0, b.R, s, row) : nullptr;
    const Real* c_before = Gates::kHasC ? before(b, b.cs, b.c_0, b.H, s, row) : nullptr;
    Real *dh = b.w_hr ? dm_ + r * width : dh_ + r * h_row_, *dc = Gates::kHasC ? dc_ + r * width : nullptr;
    for (int64_t n = 0; n < b.H; n += kLanes) {
      const int64_t left = b.H - n;
      V values[Gates::kSaved + 1], d_sums[Gates::kSums], d_c{};
      for (int j = 0; j < Gates::kSaved; ++j) values[j] = load_first(saved + j * b.H + n, left);
      Values v{values, V{}, V{}, V{}, V{}};
      if (Gates::kHasC) {
        v.c_before = load_first(c_before + n, left);
        v.c = load_first(b.cs + here * b.H + n, left);
        d_c = load(dc + n);
      } else {
        if (Gates::kReadsH) v.h_before = load_first(h_before + n, left);
        v.h = load_first(b.ys + here * b.R + n, left);
      }
      store(dh + n, gates.backward(v, load_first(dh + n, left), d_c, d_sums));  // beyond H, infinity times 0 is NaN
      if (Gates::kHasC) store(dc + n, d_c);
      for (int j = 0; j < Gates::kSums; ++j) store(da + j * width + n, d_sums[j]);
      if constexpr (Gates::kHasC)
        if (m_) store(m_ + (at + r) * width + n, Gates::output(values, v.c));
    }
  }

  // x, and h before step s, as add_outer takes them.
  void group_inputs(const Backward<Real>& b, int64_t begin, int64_t s, int64_t at) {
    if (b.dw_ih) group_columns(b.x + (time(b, s) * b.B + begin) * b.I, b.I, rows_, b.I, x_ + at * kRows, block_);
    for (int64_t r = 0; b.dw_hh && r < rows_; ++r)
      group_columns(before(b, b.ys, b.h_0, b.R, s, begin + r), b.R, 1, b.R, h_ + (at + r) * kRows, block_);
  }

  // dW += da^T [x, h, 1], and of a projection the cotangent of h times m.
  void add_gradients(const Backward<Real>& b, Real* partial, int64_t rows) {
    const Real* from_h = da_ + Gates::kFirstFromH * layout_.width;
    const int64_t depth = layout_.depth, row = layout_.gradient_row;
    if (b.dw_ih) add_outer(rows, x_, block_, b.I, da_, da_row_, depth, partial + layout_.partial_x(), row);
    if (b.dw_hh)
      add_outer(rows, h_, block_, b.R, from_h, da_row_, depth, partial + layout_.partial_h(), row);
    if (b.dw_hr)
      add_outer(rows, g_, block_, b.R, m_, layout_.width, b.H, partial + layout_.partial_g(), layout_.width);
    if (layout_.has_bias())
      for (int64_t r = 0; r < rows; ++r)
        add(partial + layout_.partial_bias(), da_ + r * da_row_, Gates::kSums * layout_.width);
  }

  void write_dx(const Backward<Real>& b, const Real* packed, int64_t begin, int64_t first, int64_t count) {
    clear(dx_, count * rows_ * x_row_);
    multiply_packed(count * rows_, da_, da_row_, layout_.packed_x(packed), layout_.from_x, dx_, x_row_);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t r = 0; r < rows_; ++r)
        copy(b.dx + (time(b, first + i) * b.B + begin + r) * b.I, dx_ + (i * rows_ + r) * x_row_, b.I);
  }

  static void add(Real* to, const Real* from, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
  }

  const BackwardLayout<Gates> layout_;
  const int64_t rows_, steps_, block_;         // block_ = steps_ * rows_, the rows of a block
  const int64_t da_row_, h_row_, x_row_;
  Arrays arrays_;
  Real *da_, *x_, *h_;                         // (block, kSums * width), and grouped: (block, I), (block, R)
  Real *dh_, *dc_, *dx_;                       // (rows, R), (rows, H), (block, I)
  Real *m_, *dm_, *g_;                         // of a projection (block, H), (rows, H), and grouped: (block, R)
};

// The weights' gradients, in torch's layout, from those of the parts of the batch, added in the order of the parts.
template <class Gates>
class PartialSum {
 public:
  PartialSum(const Backward<Real>& b, const Real* partials, int64_t count)
      : b_(b), layout_(b), partials_(partials), count_(count) {}

  void run() const {
    for (int64_t j = 0; j < Gates::kBlocks; ++j) {
      const int64_t x_block = Gates::kFromX[j];
      const int64_t column = j * layout_.width;
      if (b_.dw_ih) transposed(layout_.partial_x() + column, b_.I, b_.dw_ih + x_block * b_.H * b_.I);
      if (b_.dw_hh) transposed(layout_.partial_h() + column, b_.R, b_.dw_hh + j * b_.H * b_.R);
      const int64_t bias = layout_.partial_bias();
      if (b_.db_ih) row(bias + column, b_.db_ih + x_block * b_.H);
      if (b_.db_hh) row(bias + (Gates::kFirstFromH + j) * layout_.width, b_.db_hh + j * b_.H);
    }
    for (int64_t p = 0; b_.dw_hr && p < b_.R; ++p) row(layout_.partial_g() + p * layout_.width, b_.dw_hr + p * b_.H);
  }

 private:
  Real sum(int64_t at) const {
    Real total = partials_[at];
    for (int64_t i = 1; i < count_; ++i) total += partials_[i * layout_.partial() + at];
    return total;
  }

  void row(int64_t at, Real* to) const {
    for (int64_t n = 0; n < b_.H; ++n) to[n] = sum(at + n);
  }

  void transposed(int64_t at, int64_t depth, Real* to) const {
    constexpr int64_t kStrip = 16;
    for (int64_t begin = 0; begin < depth; begin += kStrip)
      for (int64_t n = 0; n < b_.H; ++n)
        for (int64_t k = begin; k < smaller(begin + kStrip, depth); ++k)
          to[n * depth + k] = sum(at + k * layout_.gradient_row + n);
  }

  const Backward<Real>& b_;
  const BackwardLayout<Gates> layout_;
  const Real* partials_;
  const int64_t count_;
};

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
