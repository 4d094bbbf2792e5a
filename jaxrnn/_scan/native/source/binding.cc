// XLA's side: buffers are checked, and become the arguments of the kernels.
//
// Each buffer begins with an axis of independent problems, N long; inputs that all problems share may have 1 there. What
// is not there (a bias, a projection, c of a cell that has none, an unwanted result) has 0 as its last dimension.
#include <initializer_list>
#include <new>
#include <string>

#include "dispatch.h"
#include "threads.h"

namespace jaxrnn {
namespace {

namespace ffi = xla::ffi;
using Input = ffi::AnyBuffer;
using Output = ffi::Result<ffi::AnyBuffer>;
using Shape = std::initializer_list<int64_t>;

// What is not there has no numbers on its last axis. An array of no problems has no numbers either, but is there.
bool is_absent(const Input& buffer) { return buffer.dimensions().size() > 0 && buffer.dimensions().back() == 0; }

ffi::Error out_of_memory() { return ffi::Error(ffi::ErrorCode::kResourceExhausted, "jaxrnn's kernels: out of memory"); }

// One buffer: `of(n)` is the data of problem n, null if the buffer is absent.
template <class T>
struct View {
  T* data = nullptr;
  int64_t stride = 0;
  T* of(int64_t n) const { return data ? data + n * stride : nullptr; }
};

// Takes buffers as views, and keeps the first complaint.
class Checked {
 public:
  explicit Checked(int64_t problems) : problems_(problems) {}

  // An input of shape (N or 1, *shape); absent if its last dimension is 0 and that is allowed.
  template <class T>
  View<const T> input(const char* name, const Input& buffer, Shape shape, bool may_be_absent = false) {
    return view<const T>(name, buffer, shape, true, may_be_absent);
  }

  template <class T>
  View<T> output(const char* name, Output& buffer, Shape shape, bool may_be_absent = false) {
    return view<T>(name, *buffer, shape, false, may_be_absent);
  }

  void require(bool holds, const char* message) {
    if (!holds && error_.empty()) error_ = message;
  }

  bool failed() const { return !error_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument("jaxrnn's kernels: " + error_); }

 private:
  template <class T>
  View<T> view(const char* name, const Input& buffer, Shape shape, bool may_be_shared, bool may_be_absent) {
    const auto dims = buffer.dimensions();
    if (may_be_absent && dims.size() == shape.size() + 1 && is_absent(buffer)) return {};
    bool fits = dims.size() == shape.size() + 1 && (dims[0] == problems_ || (may_be_shared && dims[0] == 1));
    int64_t stride = 1;
    size_t axis = 1;
    for (int64_t length : shape) {
      fits = fits && dims[axis] == length;
      ++axis;
      stride *= length;
    }
    constexpr auto type = std::is_same_v<std::remove_const_t<T>, float>    ? ffi::F32
                          : std::is_same_v<std::remove_const_t<T>, double> ? ffi::F64
                                                                           : ffi::PRED;
    fits = fits && buffer.element_type() == type;
    if (!fits && error_.empty()) error_ = std::string(name) + " has an unexpected shape or type";
    if (!fits) return {};
    return {static_cast<T*>(buffer.untyped_data()), dims[0] == 1 ? 0 : stride};
  }

  const int64_t problems_;
  std::string error_;
};

struct Sizes {
  int64_t N = 0, T = 0, B = 0, I = 0, H = 0, R = 0, G = 0;
  bool is_valid = false;
};

bool is_cell(int32_t cell) { return cell >= 0 && cell <= 3; }

// N, T, B and R from the outputs, I from x, H from W_ih.
Sizes sizes_of(int32_t cell, const Input& ys, const Input& x, const Input& w_ih) {
  Sizes s;
  if (!is_cell(cell) || ys.dimensions().size() != 4 || x.dimensions().size() != 4 || w_ih.dimensions().size() != 3) return s;
  s.G = blocks_of(Cell(cell));
  s.N = ys.dimensions()[0];
  s.T = ys.dimensions()[1];
  s.B = ys.dimensions()[2];
  s.R = ys.dimensions()[3];
  s.I = x.dimensions()[3];
  s.H = w_ih.dimensions()[1] / s.G;
  s.is_valid = s.R > 0 && s.H > 0 && s.I > 0;
  return s;
}

// What forward and backward have in common.
template <class Real>
struct Common {
  Common(Checked& checked, Cell cell, bool reverse, const Sizes& s, const Input& x, const Input& w_ih, const Input& w_hh,
         const Input& b_ih, const Input& b_hh, const Input& w_hr, const Input& h_0, const Input& c_0, const Input& active)
      : cell(cell),
        reverse(reverse),
        sizes(s),
        x(checked.input<Real>("x", x, {s.T, s.B, s.I})),
        w_ih(checked.input<Real>("weight_ih", w_ih, {s.G * s.H, s.I})),
        w_hh(checked.input<Real>("weight_hh", w_hh, {s.G * s.H, s.R})),
        b_ih(checked.input<Real>("bias_ih", b_ih, {s.G * s.H}, true)),
        b_hh(checked.input<Real>("bias_hh", b_hh, {s.G * s.H}, true)),
        w_hr(checked.input<Real>("weight_hr", w_hr, {s.R, s.H}, true)),
        h_0(checked.input<Real>("h_0", h_0, {s.B, s.R})),
        c_0(checked.input<Real>("c_0", c_0, {s.B, s.H}, cell != Cell::kLstm)),
        active(checked.input<bool>("active", active, {s.T, s.B}, true)) {
    checked.require(is_absent(w_hr) || cell == Cell::kLstm, "a projection belongs to an lstm");
    checked.require(!is_absent(w_hr) || s.R == s.H, "weight_hh has an unexpected shape");
    const auto shared = [](const Input& a) { return a.dimensions().size() > 0 && a.dimensions()[0] == 1; };
    shares_weights = s.N == 1 || (shared(w_ih) && shared(w_hh) && shared(b_ih) && shared(b_hh) && shared(w_hr));
  }

  void fill(Sequence<Real>& to, int64_t n) const {
    to.cell = cell;
    to.reverse = reverse;
    to.T = sizes.T;
    to.B = sizes.B;
    to.I = sizes.I;
    to.H = sizes.H;
    to.R = sizes.R;
    to.active = reinterpret_cast<const uint8_t*>(active.of(n));
    to.x = x.of(n);
    to.w_ih = w_ih.of(n);
    to.w_hh = w_hh.of(n);
    to.b_ih = b_ih.of(n);
    to.b_hh = b_hh.of(n);
    to.w_hr = w_hr.of(n);
    to.h_0 = h_0.of(n);
    to.c_0 = c_0.of(n);
  }

  const Cell cell;
  const bool reverse;
  const Sizes sizes;
  const View<const Real> x, w_ih, w_hh, b_ih, b_hh, w_hr, h_0, c_0;
  const View<const bool> active;
  bool shares_weights;
};

// How the work is shared out: N problems, the batch of each in `parts` parts, on `workers` threads.
struct Division {
  int64_t N, B, parts, workers;

  // In at most so many parts.
  Division(ffi::ThreadPool& pool, const Sizes& s, int64_t most) : N(s.N), B(s.B), parts(1), workers(1) {
    constexpr double kWorthAThread = 1e5;  // multiplications: some 10 us
    const double work = double(s.N) * s.T * s.B * s.G * s.H * (s.I + s.R);
    if (work < kWorthAThread) return;
    const int64_t threads = std::max<int64_t>(1, pool.num_threads());
    parts = std::max<int64_t>(1, std::min({(threads + N - 1) / N, B, most}));
    workers = std::min(threads, N * parts);
  }

  int64_t tasks() const { return N * parts; }
  int64_t problem(int64_t task) const { return task / parts; }
  int64_t begin(int64_t task) const { return B * (task % parts) / parts; }
  int64_t end(int64_t task) const { return B * (task % parts + 1) / parts; }
  bool whole() const { return parts == 1; }  // a task has all of a problem

  // The most that `size` gives for the rows of a task: some have one more than others, which may take less.
  template <class Size>
  int64_t largest(const Size& size) const { return std::max(size(B / parts), size((B + parts - 1) / parts)); }
};

constexpr int64_t kSmallPack = 1 << 15;  // Reals that one thread packs sooner than two
constexpr int64_t kShort = 4;            // steps of all sequences that do not repay packing

// Copies of the packed weights: one that all problems share, one of each problem, or, where a task has all of a problem,
// one of each worker, for the problem that it is at. `pack(problem, part, to)` makes a part of one.
template <class Real, class Pack>
struct Packing {
  const Division& d;
  const bool is_shared;
  const int64_t size, parts;  // Reals of a copy, and the parts that it is packed in
  const Pack pack;

  bool by_workers() const { return d.whole() && !is_shared; }
  int64_t copies() const { return by_workers() ? d.workers : is_shared ? 1 : d.N; }
  int64_t reals() const { return copies() * size; }

  // Those that are packed before any task begins.
  void ahead(ffi::ThreadPool& pool, Real* memory) const {
    if (by_workers()) return;
    parallel(pool, copies() * parts, size > kSmallPack ? d.workers : 1,
             [&](int64_t i, int64_t) { pack(i / parts, i % parts, memory + i / parts * size); });
  }

  // A task's.
  Real* of(int64_t task, int64_t worker, Real* memory) const {
    const int64_t problem = d.problem(task);
    Real* const to = memory + (by_workers() ? worker : is_shared ? 0 : problem) * size;
    if (by_workers())
      for (int64_t part = 0; part < parts; ++part) pack(problem, part, to);
    return to;
  }
};

template <class Real, class Pack>
Packing<Real, Pack> packing(const Division& d, bool is_shared, int64_t size, int64_t parts, const Pack& pack) {
  return {d, is_shared, size, parts, pack};
}

template <class Real>
ffi::Error run_forward(ffi::ThreadPool& pool, const Common<Real>& common, const View<Real>& ys, const View<Real>& cs,
                       const View<Real>& h_T, const View<Real>& c_T, const View<Real>& saved) {
  const Division d(pool, common.sizes, common.sizes.B);
  const Kernels<Real>& k = kernels<Real>(common.cell);
  const auto problem = [&](int64_t n) {
    Forward<Real> f;
    common.fill(f, n);
    f.ys = ys.of(n);
    f.cs = cs.of(n);
    f.h_T = h_T.of(n);
    f.c_T = c_T.of(n);
    f.saved = saved.of(n);
    return f;
  };
  const Forward<Real> first = problem(0);
  const bool is_short = common.sizes.T * common.sizes.B <= kShort;
  const auto weights = packing<Real>(
      d, common.shares_weights, is_short ? 0 : k.forward_packed(first), is_short ? 0 : k.forward_parts(first),
      [&](int64_t n, int64_t part, Real* to) { k.forward_pack(problem(n), part, to); });
  const int64_t each = d.largest([&](int64_t rows) { return k.forward_scratch(first, rows); });
  const Scratch scratch(sizeof(Real) * (weights.reals() + d.workers * each));
  Real* const memory = scratch.template as<Real>();
  if (!memory) return out_of_memory();
  Real* const rest = memory + weights.reals();

  weights.ahead(pool, memory);
  parallel(pool, d.tasks(), d.workers, [&](int64_t task, int64_t worker) {
    const Real* packed = is_short ? nullptr : weights.of(task, worker, memory);
    k.forward(problem(d.problem(task)), packed, rest + worker * each, d.begin(task), d.end(task));
  });
  return ffi::Error::Success();
}

template <class Real>
struct Cotangents {
  View<const Real> ys, cs, saved, d_ys, d_cs, d_h_T, d_c_T;
  View<Real> dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh_0, dc_0;
};

// Each part of the batch has gradients of the weights of its own: on many cores they must not outgrow what is kept of the
// steps, or two threads' worth of them.
template <class Real>
int64_t most_parts(const Common<Real>& common, int64_t partial) {
  const Sizes& s = common.sizes;
  const int64_t kept = s.T * s.B * (saved_of(common.cell) * s.H + s.R);
  return std::max<int64_t>(2, kept / (2 * std::max<int64_t>(1, partial)));
}

template <class Real>
ffi::Error run_backward(ffi::ThreadPool& pool, const Common<Real>& common, const Cotangents<Real>& v) {
  const Kernels<Real>& k = kernels<Real>(common.cell);
  const auto problem = [&](int64_t n) {
    Backward<Real> b;
    common.fill(b, n);
    b.ys = v.ys.of(n);
    b.cs = v.cs.of(n);
    b.saved = v.saved.of(n);
    b.d_ys = v.d_ys.of(n);
    b.d_cs = v.d_cs.of(n);
    b.d_h_T = v.d_h_T.of(n);
    b.d_c_T = v.d_c_T.of(n);
    b.dx = v.dx.of(n);
    b.dw_ih = v.dw_ih.of(n);
    b.dw_hh = v.dw_hh.of(n);
    b.db_ih = v.db_ih.of(n);
    b.db_hh = v.db_hh.of(n);
    b.dw_hr = v.dw_hr.of(n);
    b.dh_0 = v.dh_0.of(n);
    b.dc_0 = v.dc_0.of(n);
    return b;
  };
  const Backward<Real> first = problem(0);
  const int64_t partial = k.partial(first);
  const Division d(pool, common.sizes, most_parts(common, partial));
  const auto weights = packing<Real>(
      d, common.shares_weights, k.backward_packed(first), k.backward_parts(first),
      [&](int64_t n, int64_t part, Real* to) { k.backward_pack(problem(n), part, to); });
  const int64_t each = d.largest([&](int64_t rows) { return k.backward_scratch(first, rows); });
  const int64_t partials = d.whole() ? d.workers : d.tasks();
  const Scratch scratch(sizeof(Real) * (weights.reals() + d.workers * each + partials * partial));
  Real* const memory = scratch.template as<Real>();
  if (!memory) return out_of_memory();
  Real* const rest = memory + weights.reals();
  Real* const sums = rest + d.workers * each;

  weights.ahead(pool, memory);
  parallel(pool, d.tasks(), d.workers, [&](int64_t task, int64_t worker) {
    const Backward<Real> b = problem(d.problem(task));
    Real* sum = sums + (d.whole() ? worker : task) * partial;
    k.backward(b, weights.of(task, worker, memory), rest + worker * each, sum, d.begin(task), d.end(task));
    if (d.whole()) k.add_partials(b, sum, 1);
  });
  if (!d.whole())
    parallel(pool, d.N, d.workers, [&](int64_t n, int64_t) {
      k.add_partials(problem(n), sums + n * d.parts * partial, d.parts);
    });
  return ffi::Error::Success();
}

template <class Real>
ffi::Error forward_of(ffi::ThreadPool& pool, int32_t cell, bool reverse, const Sizes& s, const Input& x,
                      const Input& w_ih, const Input& w_hh, const Input& b_ih, const Input& b_hh, const Input& w_hr,
                      const Input& h_0, const Input& c_0, const Input& active, Output& ys, Output& cs, Output& h_T,
                      Output& c_T, Output& saved) {
  Checked checked(s.N);
  const bool has_c = Cell(cell) == Cell::kLstm;
  const Common<Real> common(checked, Cell(cell), reverse, s, x, w_ih, w_hh, b_ih, b_hh, w_hr, h_0, c_0, active);
  const auto ys_view = checked.output<Real>("ys", ys, {s.T, s.B, s.R});
  const auto cs_view = checked.output<Real>("cs", cs, {s.T, s.B, s.H}, true);
  const auto h_view = checked.output<Real>("h_T", h_T, {s.B, s.R});
  const auto c_view = checked.output<Real>("c_T", c_T, {s.B, s.H}, !has_c);
  const auto saved_view = checked.output<Real>("saved", saved, {s.T, s.B, saved_of(Cell(cell)) * s.H}, true);
  checked.require(has_c || (!cs_view.data && !c_view.data && !common.c_0.data), "c belongs to an lstm");
  if (checked.failed()) return checked.error();
  if (s.N == 0 || s.B == 0) return ffi::Error::Success();
  use_huge_pages(ys->untyped_data(), ys->size_bytes());
  use_huge_pages(saved->untyped_data(), saved->size_bytes());
  return run_forward<Real>(pool, common, ys_view, cs_view, h_view, c_view, saved_view);
}

ffi::Error forward(ffi::ThreadPool pool, int32_t cell, bool reverse, Input x, Input w_ih, Input w_hh, Input b_ih,
                   Input b_hh, Input w_hr, Input h_0, Input c_0, Input active, Output ys, Output cs, Output h_T,
                   Output c_T, Output saved) {
  const Sizes s = sizes_of(cell, *ys, x, w_ih);
  if (!s.is_valid) return ffi::Error::InvalidArgument("jaxrnn's kernels: unexpected cell or number of axes");
  const auto run = x.element_type() == ffi::F64 ? forward_of<double> : forward_of<float>;
  try {
    return run(pool, cell, reverse, s, x, w_ih, w_hh, b_ih, b_hh, w_hr, h_0, c_0, active, ys, cs, h_T, c_T, saved);
  } catch (const std::bad_alloc&) {  // nothing may unwind into XLA
    return out_of_memory();
  }
}

template <class Real>
ffi::Error backward_of(ffi::ThreadPool& pool, int32_t cell, bool reverse, const Sizes& s, const Input& x,
                       const Input& w_ih, const Input& w_hh, const Input& b_ih, const Input& b_hh, const Input& w_hr,
                       const Input& h_0, const Input& c_0, const Input& active, const Input& ys, const Input& cs,
                       const Input& saved, const Input& d_ys, const Input& d_cs, const Input& d_h_T, const Input& d_c_T,
                       Output& dx, Output& dw_ih, Output& dw_hh, Output& db_ih, Output& db_hh, Output& dw_hr,
                       Output& dh_0, Output& dc_0) {
  Checked checked(s.N);
  const bool has_c = Cell(cell) == Cell::kLstm;
  const int64_t rows = s.G * s.H, kept = saved_of(Cell(cell)) * s.H;
  const Common<Real> common(checked, Cell(cell), reverse, s, x, w_ih, w_hh, b_ih, b_hh, w_hr, h_0, c_0, active);
  Cotangents<Real> v;
  v.ys = checked.input<Real>("ys", ys, {s.T, s.B, s.R});
  v.cs = checked.input<Real>("cs", cs, {s.T, s.B, s.H}, !has_c);
  v.saved = checked.input<Real>("saved", saved, {s.T, s.B, kept}, kept == 0);
  v.d_ys = checked.input<Real>("d_ys", d_ys, {s.T, s.B, s.R});
  v.d_cs = checked.input<Real>("d_cs", d_cs, {s.T, s.B, s.H}, true);
  v.d_h_T = checked.input<Real>("d_h_T", d_h_T, {s.B, s.R});
  v.d_c_T = checked.input<Real>("d_c_T", d_c_T, {s.B, s.H}, !has_c);
  v.dx = checked.output<Real>("dx", dx, {s.T, s.B, s.I}, true);
  v.dw_ih = checked.output<Real>("dweight_ih", dw_ih, {rows, s.I}, true);
  v.dw_hh = checked.output<Real>("dweight_hh", dw_hh, {rows, s.R}, true);
  v.db_ih = checked.output<Real>("dbias_ih", db_ih, {rows}, true);
  v.db_hh = checked.output<Real>("dbias_hh", db_hh, {rows}, true);
  v.dw_hr = checked.output<Real>("dweight_hr", dw_hr, {s.R, s.H}, true);
  v.dh_0 = checked.output<Real>("dh_0", dh_0, {s.B, s.R});
  v.dc_0 = checked.output<Real>("dc_0", dc_0, {s.B, s.H}, !has_c);
  checked.require(!is_absent(w_hr) || is_absent(*dw_hr), "a projection belongs to an lstm that has one");
  if (checked.failed()) return checked.error();
  if (s.N == 0) return ffi::Error::Success();
  use_huge_pages(dx->untyped_data(), dx->size_bytes());
  return run_backward<Real>(pool, common, v);
}

ffi::Error backward(ffi::ThreadPool pool, int32_t cell, bool reverse, Input d_ys, Input d_cs, Input d_h_T, Input d_c_T,
                    Input x, Input w_ih, Input w_hh, Input b_ih, Input b_hh, Input w_hr, Input h_0, Input c_0,
                    Input active, Input ys, Input cs, Input saved, Output dx, Output dw_ih, Output dw_hh,
                    Output db_ih, Output db_hh, Output dw_hr, Output dh_0, Output dc_0) {
  // The number of problems is that of the results.
  Sizes s = sizes_of(cell, ys, x, w_ih);
  if (!s.is_valid || dh_0->dimensions().size() != 3)
    return ffi::Error::InvalidArgument("jaxrnn's kernels: unexpected cell or number of axes");
  s.N = dh_0->dimensions()[0];
  const auto run = x.element_type() == ffi::F64 ? backward_of<double> : backward_of<float>;
  try {
    return run(pool, cell, reverse, s, x, w_ih, w_hh, b_ih, b_hh, w_hr, h_0, c_0, active, ys, cs, saved, d_ys, d_cs,
               d_h_T, d_c_T, dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh_0, dc_0);
  } catch (const std::bad_alloc&) {  // nothing may unwind into XLA
    return out_of_memory();
  }
}

}  // namespace

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxrnn_forward, forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Attr<bool>("reverse")
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // x, weight_ih, weight_hh
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // bias_ih, bias_hh, weight_hr
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // h_0, c_0, active
                                  .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()  // ys, cs
                                  .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()  // h_T, c_T
                                  .Ret<ffi::AnyBuffer>());                      // saved

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxrnn_backward, backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Attr<bool>("reverse")
                                  .Arg<Input>().Arg<Input>()               // d_ys, d_cs
                                  .Arg<Input>().Arg<Input>()               // d_h_T, d_c_T
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // x, weight_ih, weight_hh
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // bias_ih, bias_hh, weight_hr
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // h_0, c_0, active
                                  .Arg<Input>().Arg<Input>().Arg<Input>()  // ys, cs, saved
                                  .Ret<ffi::AnyBuffer>()                        // dx
                                  .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()  // dweight_ih, dweight_hh
                                  .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()  // dbias_ih, dbias_hh
                                  .Ret<ffi::AnyBuffer>()                        // dweight_hr
                                  .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>());  // dh_0, dc_0

extern "C" int32_t jaxrnn_instruction_set() { return static_cast<int32_t>(instruction_set()); }

#pragma GCC visibility pop

}  // namespace jaxrnn
