// What the kernels of every instruction set share with the code that calls them.
//
// A sequence is run for independent problems (members of an ensemble), each with its own weights; these are the
// arguments of one. All arrays are row-major and dense. T steps, B sequences, I inputs, H hidden units, R units of h:
// P with a projection, else H. G blocks of gates: 4 (lstm: i, f, g, o), 3 (gru: r, u, n) or 1.
//
// Functions are static: of one that the linker took for the same, it would keep some instruction set's code for all.
#pragma once

#include <cstdint>

namespace jaxrnn {

enum class Cell : int32_t { kLstm = 0, kGru = 1, kTanh = 2, kRelu = 3 };

static constexpr int blocks_of(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }

// What a backward pass needs of a step beside the states: the gates' values (lstm: i, f, g, o; gru: r, u, n, W_hn h + b_hn).
static constexpr int saved_of(Cell cell) { return cell == Cell::kLstm || cell == Cell::kGru ? 4 : 0; }

template <class Real>
struct Sequence {
  Cell cell;
  bool reverse;  // from the last step to the first
  int64_t T, B, I, H, R;
  const uint8_t* active;        // (T, B): whether a step counts; null if all do
  const Real* x;                // (T, B, I)
  const Real *w_ih, *w_hh;      // (G*H, I), (G*H, R)
  const Real *b_ih, *b_hh;      // (G*H,), null if there is none
  const Real* w_hr;             // (R, H), null without a projection
  const Real *h_0, *c_0;        // (B, R), (B, H); c of an lstm alone
};

// The time of a step, which are numbered in the order in which they are run.
template <class Real>
static int64_t time(const Sequence<Real>& s, int64_t step) { return s.reverse ? s.T - 1 - step : step; }

template <class Real>
struct Forward : Sequence<Real> {
  Real* ys;           // (T, B, R), 0 where a step does not count
  Real* cs;           // (T, B, H), 0 where a step does not count; null if not wanted
  Real *h_T, *c_T;    // (B, R), (B, H)
  Real* saved;        // (T, B, saved_of(cell), H), 0 where a step does not count; null if not wanted
};

template <class Real>
struct Backward : Sequence<Real> {
  const Real *ys, *cs, *saved;                       // as from the forward pass
  const Real *d_ys, *d_cs, *d_h_T, *d_c_T;           // cotangents; d_cs may be null
  Real *dx, *dw_ih, *dw_hh, *db_ih, *db_hh, *dw_hr;  // each null if not wanted
  Real *dh_0, *dc_0;
};

// The functions of one cell for one instruction set. Sizes are numbers of Reals, multiples of kAlign.
template <class Real>
struct Kernels {
  int64_t (*forward_packed)(const Sequence<Real>&);                  // of the packed weights
  int64_t (*forward_parts)(const Sequence<Real>&);                   // of packing, independent of each other
  void (*forward_pack)(const Sequence<Real>&, int64_t part, Real* packed);
  int64_t (*forward_scratch)(const Sequence<Real>&, int64_t rows);
  // Rows begin ... end - 1 of B; without packed weights it reads them as they lie.
  void (*forward)(const Forward<Real>&, const Real* packed, Real* scratch, int64_t begin, int64_t end);

  int64_t (*backward_packed)(const Backward<Real>&);
  int64_t (*backward_parts)(const Backward<Real>&);
  void (*backward_pack)(const Backward<Real>&, int64_t part, Real* packed);
  int64_t (*backward_scratch)(const Backward<Real>&, int64_t rows);
  int64_t (*partial)(const Backward<Real>&);                         // of the weights' gradients from some rows
  void (*backward)(const Backward<Real>&, const Real* packed, Real* scratch, Real* partial, int64_t begin, int64_t end);
  void (*add_partials)(const Backward<Real>&, const Real* partials, int64_t count);
};

constexpr int64_t kAlign = 16;  // Reals: at least a cache line

static constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Defined by kernels.cc, which is compiled once for each.
namespace avx2_float { const Kernels<float>& kernels(Cell); }
namespace avx2_double { const Kernels<double>& kernels(Cell); }
namespace avx512_float { const Kernels<float>& kernels(Cell); }
namespace avx512_double { const Kernels<double>& kernels(Cell); }

}  // namespace jaxrnn
