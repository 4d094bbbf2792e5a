// The table of kernels of one instruction set and one type: compiled with JAXRNN_REAL and JAXRNN_NAMESPACE defined, once
// for each of both.
#include "backward.h"
#include "forward.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

template <class Gates>
struct Table {
  static int64_t forward_packed(const Sequence<Real>& s) { return Layout<Gates>(s).size(); }
  static int64_t forward_parts(const Sequence<Real>& s) { return Layout<Gates>(s).parts(); }
  static void forward_pack(const Sequence<Real>& s, int64_t part, Real* packed) { Layout<Gates>(s).pack(part, packed); }
  static int64_t forward_scratch(const Sequence<Real>& s, int64_t rows) {
    return ForwardPass<Gates>(s, rows, nullptr).scratch();
  }
  static void forward(const Forward<Real>& f, const Real* packed, Real* scratch, int64_t begin, int64_t end) {
    ForwardPass<Gates>(f, end - begin, scratch).run(f, packed, begin);
  }

  static int64_t backward_packed(const Backward<Real>& b) { return BackwardLayout<Gates>(b).size(); }
  static int64_t backward_parts(const Backward<Real>& b) { return BackwardLayout<Gates>(b).parts(); }
  static void backward_pack(const Backward<Real>& b, int64_t part, Real* packed) {
    BackwardLayout<Gates>(b).pack(part, packed);
  }
  static int64_t backward_scratch(const Backward<Real>& b, int64_t rows) {
    return BackwardPass<Gates>(b, rows, nullptr).scratch();
  }
  static int64_t partial(const Backward<Real>& b) { return BackwardLayout<Gates>(b).partial(); }
  static void backward(const Backward<Real>& b, const Real* packed, Real* scratch, Real* partial, int64_t begin,
                       int64_t end) {
    BackwardPass<Gates>(b, end - begin, scratch).run(b, packed, partial, begin);
  }
  static void add_partials(const Backward<Real>& b, const Real* partials, int64_t count) {
    PartialSum<Gates>(b, partials, count).run();
  }

  static constexpr Kernels<Real> kernels = {forward_packed,   forward_parts, forward_pack, forward_scratch,
                                            forward,          backward_packed, backward_parts, backward_pack,
                                            backward_scratch, partial,       backward,     add_partials};
};

}  // namespace

const Kernels<Real>& kernels(Cell cell) {
  switch (cell) {
    case Cell::kLstm: return Table<Lstm>::kernels;
    case Cell::kGru: return Table<Gru>::kernels;
    default: return Table<Elman>::kernels;
  }
}

}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
