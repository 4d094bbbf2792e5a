// The forward pass: for a block of time steps the sums from x at once, then step by step those from h, and the gates.
// Without packed weights it reads them as they lie.
#pragma once

#include "dots.h"
#include "gates.h"
#include "product.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

constexpr int kInOrder[] = {0, 1, 2, 3};
constexpr int64_t kBlockBytes = 1 << 17;  // of sums of a block of time steps: they stay in a core's cache

// Sums and weights lie in panels of hidden units: one vector of units with all its gates, or up to kColumns vectors of a
// cell with one gate. A panel's weights: rows for each input, rows for each unit of h, and the biases, one for each sum.
template <class Gates>
struct Layout {
  static constexpr int kUnits = Gates::kBlocks == 1 ? kColumns : 1;  // vectors of units of a panel
  static constexpr int kStride = Gates::kBlocks * kUnits * kLanes;   // of the weights of a whole panel

  explicit Layout(const Sequence<Real>& s)
      : s(s), panels((vectors(s.H) + kUnits - 1) / kUnits), projection{s.w_hr ? s.H : 0, s.w_hr ? s.R : 0} {}

  int64_t units(int64_t panel) const { return smaller(kUnits, vectors(s.H) - panel * kUnits); }
  int64_t panel_size() const { return (s.I + s.R) * kStride + Gates::kSums * kUnits * kLanes; }
  int64_t size() const { return round_up(panels * panel_size(), kAlign) + projection.size(); }
  int64_t parts() const { return panels + projection.count(); }

  void pack(int64_t part, Real* packed) const {
    if (part < panels) return pack_panel(part, packed + part * panel_size());
    pack_projection(part - panels, packed + round_up(panels * panel_size(), kAlign));
  }

  // The biases of a panel, one for each sum.
  void pack_bias(int64_t panel, Real* bias) const {
    clear(bias, Gates::kSums * kUnits * kLanes);
    for (int64_t j = 0; j < Gates::kBlocks; ++j) {
      add_bias(s.b_ih, Gates::kFromX[j], panel, bias + j * units(panel) * kLanes);
      add_bias(s.b_hh, j, panel, bias + (Gates::kFirstFromH + j) * units(panel) * kLanes);
    }
  }

  const Real* from_x(const Real* packed, int64_t panel) const { return packed + panel * panel_size(); }
  const Real* from_h(const Real* packed, int64_t panel) const { return from_x(packed, panel) + s.I * kStride; }
  const Real* bias(const Real* packed, int64_t panel) const { return from_h(packed, panel) + s.R * kStride; }
  const Real* from_m(const Real* packed) const { return packed + round_up(panels * panel_size(), kAlign); }

  const Sequence<Real>& s;
  const int64_t panels;
  const Panels projection;  // m (H) -> h (R)

 private:
  void pack_panel(int64_t panel, Real* w) const {
    for (int64_t j = 0; j < Gates::kBlocks; ++j)
      for (int64_t u = 0; u < units(panel); ++u) {
        const int64_t first = (panel * kUnits + u) * kLanes, column = (j * units(panel) + u) * kLanes;
        pack_block(s.w_ih, s.I, Gates::kFromX[j], first, units(panel), w + column);
        pack_block(s.w_hh, s.R, j, first, units(panel), w + s.I * kStride + column);
      }
    pack_bias(panel, w + (s.I + s.R) * kStride);
  }

  // A vector of units: rows of the weights become columns.
  void pack_block(const Real* weight, int64_t depth, int64_t block, int64_t first, int64_t units, Real* to) const {
    const int64_t stride = Gates::kBlocks * units * kLanes;
    constexpr int64_t kStrip = 16;
    for (int64_t begin = 0; begin < depth; begin += kStrip)
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const bool exists = first + lane < s.H;
        const Real* row = weight + (block * s.H + (exists ? first + lane : 0)) * depth;
        for (int64_t k = begin; k < smaller(begin + kStrip, depth); ++k) to[k * stride + lane] = exists ? row[k] : 0;
      }
  }

  void add_bias(const Real* bias, int64_t block, int64_t panel, Real* to) const {
    if (!bias) return;
    const int64_t first = panel * kUnits * kLanes;
    for (int64_t i = 0; i < smaller(units(panel) * kLanes, s.H - first); ++i) to[i] += bias[block * s.H + first + i];
  }

  void pack_projection(int64_t panel, Real* packed) const {
    const int64_t width = projection.width(panel) * kLanes;
    Real* to = packed + projection.offset(panel);
    for (int64_t column = 0; column < width; ++column) {
      const int64_t unit = panel * kColumns * kLanes + column;
      for (int64_t k = 0; k < s.H; ++k) to[k * width + column] = unit < s.R ? s.w_hr[unit * s.H + k] : 0;
    }
  }
};

template <class Gates>
class ForwardPass {
 public:
  // Of rows begin ... end - 1 of the batch. Without a block of memory it knows its sizes alone.
  ForwardPass(const Sequence<Real>& s, int64_t rows, Real* scratch)
      : layout_(s), rows_(rows), h_row_(padded(s.R)), m_row_(padded(s.H)), arrays_(scratch) {
    const int64_t sums = Gates::kSums * layout_.panels * Layout<Gates>::kUnits * kLanes;
    steps_ = larger(1, smaller(s.T, kBlockBytes / int64_t(sizeof(Real)) / larger(1, rows * sums)));
    x_ = arrays_.take(steps_ * rows * s.I);
    sums_ = arrays_.take(steps_ * rows * sums);
    bias_ = arrays_.take(Gates::kSums * Layout<Gates>::kUnits * kLanes);
    h_ = arrays_.take(rows * h_row_);
    next_ = arrays_.take(rows * h_row_);
    m_ = s.w_hr ? arrays_.take(rows * m_row_) : nullptr;
    c_ = Gates::kHasC ? arrays_.take(rows * m_row_) : nullptr;
  }

  int64_t scratch() const { return arrays_.taken(); }

  void run(const Forward<Real>& f, const Real* packed, int64_t begin) {
    load_state(f, begin);
    for (int64_t first = 0; first < f.T; first += steps_) {
      const int64_t count = smaller(steps_, f.T - first);
      sum_from_x(f, packed, begin, first, count);
      for (int64_t i = 0; i < count; ++i) step(f, packed, begin, i, time(f, first + i));
    }
    for (int64_t r = 0; r < rows_; ++r) {
      copy(f.h_T + (begin + r) * f.R, h_ + r * h_row_, f.R);
      if (Gates::kHasC) copy(f.c_T + (begin + r) * f.H, c_ + r * m_row_, f.H);
    }
  }

 private:
  void load_state(const Forward<Real>& f, int64_t begin) {
    clear(h_, rows_ * h_row_);
    clear(next_, rows_ * h_row_);
    if (Gates::kHasC) clear(c_, rows_ * m_row_);
    for (int64_t r = 0; r < rows_; ++r) {
      copy(h_ + r * h_row_, f.h_0 + (begin + r) * f.R, f.R);
      if (Gates::kHasC) copy(c_ + r * m_row_, f.c_0 + (begin + r) * f.H, f.H);
    }
  }

  int64_t sums_row(int64_t panel) const { return Gates::kSums * layout_.units(panel) * kLanes; }

  // A panel's sums of step i of the block.
  Real* sums(int64_t panel, int64_t i) const {
    return sums_ + panel * steps_ * rows_ * Gates::kSums * Layout<Gates>::kUnits * kLanes + i * rows_ * sums_row(panel);
  }

  // a = W_ih x + b_ih + b_hh, of steps first ... first + count - 1.
  void sum_from_x(const Forward<Real>& f, const Real* packed, int64_t begin, int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      copy(x_ + i * rows_ * f.I, f.x + (time(f, first + i) * f.B + begin) * f.I, rows_ * f.I);
    for (int64_t p = 0; p < layout_.panels; ++p) {
      const int64_t row = sums_row(p), columns = Gates::kBlocks * layout_.units(p);
      if (!packed) layout_.pack_bias(p, bias_);
      const Real* bias = packed ? layout_.bias(packed, p) : bias_;
      for (int64_t r = 0; r < count * rows_; ++r) copy(sums(p, 0) + r * row, bias, row);
      if (packed)
        multiply(count * rows_, columns,
                 {x_, f.I, 1, layout_.from_x(packed, p), columns * kLanes, f.I, sums(p, 0), row});
      else
        multiply_unpacked(count * rows_, x_, f.I, f.w_ih, f.I, Gates::kFromX, p, sums(p, 0));
    }
  }

  void step(const Forward<Real>& f, const Real* packed, int64_t begin, int64_t i, int64_t t) {
    const uint8_t* active = f.active ? f.active + t * f.B + begin : nullptr;
    for (int64_t p = 0; p < layout_.panels; ++p) {
      const int64_t columns = Gates::kBlocks * layout_.units(p);
      Real* from_h = sums(p, i) + Gates::kFirstFromH * kLanes;
      if (packed)
        multiply(rows_, columns,
                 {h_, h_row_, 1, layout_.from_h(packed, p), columns * kLanes, f.R, from_h, sums_row(p)});
      else
        multiply_unpacked(rows_, h_, h_row_, f.w_hh, f.R, kInOrder, p, from_h);
      gates(f, p, sums(p, i), active, f.saved ? f.saved + (t * f.B + begin) * Gates::kSaved * f.H : nullptr);
    }
    if (f.w_hr) project(f, packed);
    write(f, active, t * f.B + begin);
    Real* before = h_;
    h_ = next_;
    next_ = before;
  }

  // A panel's sums += those from a (rows, depth), block blocks[j] of the weights to the j-th.
  void multiply_unpacked(int64_t rows, const Real* a, int64_t a_row, const Real* weight, int64_t depth, const int* blocks,
                         int64_t panel, Real* sums) const {
    const int64_t units = layout_.units(panel), row = sums_row(panel), H = layout_.s.H;
    for (int j = 0; j < Gates::kBlocks; ++j)
      for (int64_t u = 0; u < units; ++u) {
        const int64_t first = (panel * Layout<Gates>::kUnits + u) * kLanes;
        Real* to = sums + (j * units + u) * kLanes;
        for (int64_t r = 0; r < rows; ++r, to += row)
          store(to, load(to) + dots(a + r * a_row, weight + (blocks[j] * H + first) * depth, depth, H - first));
      }
  }

  // h = W_hr m
  void project(const Forward<Real>& f, const Real* packed) {
    if (packed) {
      clear(next_, rows_ * h_row_);
      return multiply_packed(rows_, m_, m_row_, layout_.from_m(packed), layout_.projection, next_, h_row_);
    }
    for (int64_t first = 0; first < f.R; first += kLanes)
      for (int64_t r = 0; r < rows_; ++r)
        store(next_ + r * h_row_ + first, dots(m_ + r * m_row_, f.w_hr + first * f.H, f.H, f.R - first));
  }

  void gates(const Forward<Real>& f, int64_t panel, const Real* sums, const uint8_t* active, Real* saved) {
    const Gates gates(f.cell);
    const int64_t units = layout_.units(panel), row = sums_row(panel);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t u = 0; u < units; ++u) {
        const int64_t n = (panel * Layout<Gates>::kUnits + u) * kLanes;
        if (active && !active[r]) {
          if (saved) clear_saved(saved + r * Gates::kSaved * f.H + n, f.H, f.H - n);
          continue;
        }
        V a[Gates::kSums], values[Gates::kSaved + 1], c{}, h{};
        for (int j = 0; j < Gates::kSums; ++j) a[j] = load(sums + r * row + (j * units + u) * kLanes);
        if (Gates::kHasC) c = load(c_ + r * m_row_ + n);
        if (Gates::kReadsH) h = load(h_ + r * h_row_ + n);
        store((m_ ? m_ : next_) + r * m_row_ + n, gates.forward(a, h, c, values));
        if (Gates::kHasC) store(c_ + r * m_row_ + n, c);
        if (saved)
          for (int j = 0; j < Gates::kSaved; ++j)
            store_first(saved + (r * Gates::kSaved + j) * f.H + n, values[j], f.H - n);
      }
    }
  }

  static void clear_saved(Real* saved, int64_t width, int64_t left) {
    for (int j = 0; j < Gates::kSaved; ++j) clear(saved + j * width, smaller(kLanes, left));
  }

  // Outputs of a step; where it does not count, 0, and the state stays.
  void write(const Forward<Real>& f, const uint8_t* active, int64_t first) {
    for (int64_t r = 0; r < rows_; ++r) {
      Real *y = f.ys + (first + r) * f.R, *c = f.cs ? f.cs + (first + r) * f.H : nullptr;
      if (active && !active[r]) {
        copy(next_ + r * h_row_, h_ + r * h_row_, h_row_);
        clear(y, f.R);
        if (c) clear(c, f.H);
      } else {
        copy(y, next_ + r * h_row_, f.R);
        if (c) copy(c, c_ + r * m_row_, f.H);
      }
    }
  }

  const Layout<Gates> layout_;
  const int64_t rows_, h_row_, m_row_;
  Arrays arrays_;
  int64_t steps_;            // of a block
  Real *x_, *sums_, *bias_;  // (steps, rows, I); panel by panel (steps, rows, sums); of one panel (sums)
  Real *h_, *next_, *m_, *c_;  // (rows, R) each, and (rows, H): h before and after a step, h before its projection, c
};

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
