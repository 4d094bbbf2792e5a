// c += a b, in tiles whose sums stay in registers.
//
// a(m, k) = a[m * a_row + k * a_step]; b has rows of vectors, b_row numbers apart; c too, c_row apart.
#pragma once

#include <utility>

#include "vector.h"

namespace jaxrnn {
namespace JAXRNN_NAMESPACE {
namespace {

constexpr int kColumns = 4;  // vectors of a tile at most

struct Operands {
  const Real* a;
  int64_t a_row, a_step;
  const Real* b;
  int64_t b_row;
  int64_t depth;  // how many k
  Real* c;
  int64_t c_row;
};

// A tile of M rows and N vectors. Few sums would wait for each other: then several chains of k run side by side.
template <int M, int N>
__attribute__((noinline)) void tile(const Operands& o) {
  constexpr int kChains = M * N >= 8 ? 1 : M * N >= 4 ? 2 : 4;
  const int64_t a_row = o.a_row, a_step = o.a_step, b_row = o.b_row, depth = o.depth;
  V sums[kChains][M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      sums[0][m][n] = load(o.c + m * o.c_row + n * kLanes);
#pragma GCC unroll 8
      for (int chain = 1; chain < kChains; ++chain) sums[chain][m][n] = V{};
    }
  const Real *a = o.a, *b = o.b;
  int64_t k = 0;
  for (; k + kChains <= depth; k += kChains)
#pragma GCC unroll 8
    for (int chain = 0; chain < kChains; ++chain, a += a_step, b += b_row) {
      V row[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) row[n] = load(b + n * kLanes);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        V factor = broadcast(a[m * a_row]);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) sums[chain][m][n] += factor * row[n];
      }
    }
  for (; k < depth; ++k, a += a_step, b += b_row)
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      V factor = broadcast(a[m * a_row]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[0][m][n] += factor * load(b + n * kLanes);
    }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
      for (int chain = 1; chain < kChains; ++chain) sums[0][m][n] += sums[chain][m][n];
      store(o.c + m * o.c_row + n * kLanes, sums[0][m][n]);
    }
}

using Tile = void (*)(const Operands&);

template <int... I>
constexpr auto all_tiles(std::integer_sequence<int, I...>) {
  struct Table {
    Tile tiles[sizeof...(I)];
  };
  return Table{{tile<I / kColumns + 1, I % kColumns + 1>...}};
}

constexpr auto kTiles = all_tiles(std::make_integer_sequence<int, kRows * kColumns>());

JAXRNN_INLINE void run_tile(int64_t rows, int64_t columns, const Operands& o) {
  kTiles.tiles[(rows - 1) * kColumns + columns - 1](o);
}

// Any number of rows, up to kColumns vectors.
inline void multiply(int64_t rows, int64_t columns, const Operands& all) {
  const int64_t tiles = (rows + kRows - 1) / kRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t begin = rows * i / tiles, end = rows * (i + 1) / tiles;
    Operands o = all;
    o.a += begin * all.a_row;
    o.c += begin * all.c_row;
    run_tile(end - begin, columns, o);
  }
}

// A matrix (depth, columns) packed in panels of kColumns vectors, each panel's rows one after the other.
struct Panels {
  int64_t depth, columns;

  int64_t count() const { return (vectors(columns) + kColumns - 1) / kColumns; }
  int64_t width(int64_t panel) const { return smaller(kColumns, vectors(columns) - panel * kColumns); }
  int64_t offset(int64_t panel) const { return panel * kColumns * kLanes * depth; }
  int64_t size() const { return round_up(padded(columns) * depth, kAlign); }
};

// c (rows, columns) += a (rows, depth) times a packed matrix; a's rows are a_row apart, its columns adjacent.
inline void multiply_packed(int64_t rows, const Real* a, int64_t a_row, const Real* packed, const Panels& panels, Real* c,
                            int64_t c_row) {
  for (int64_t p = 0; p < panels.count(); ++p) {
    const int64_t width = panels.width(p);
    multiply(rows, width, {a, a_row, 1, packed + panels.offset(p), width * kLanes, panels.depth,
                           c + p * kColumns * kLanes, c_row});
  }
}

// Columns of `rows` rows in groups of kRows, each group's numbers row by row: what `add_outer` takes for a.
inline void group_columns(const Real* from, int64_t from_row, int64_t rows, int64_t columns, Real* to, int64_t to_rows) {
  for (int64_t first = 0; first < columns; first += kRows, to += kRows * to_rows) {
    const int64_t count = smaller(kRows, columns - first);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < count; ++i) to[row * kRows + i] = from[row * from_row + first + i];
  }
}

// c (columns of a, columns of b) += the sum over rows of a^T b, a as `group_columns` leaves it with room for to_rows.
inline void add_outer(int64_t rows, const Real* a, int64_t to_rows, int64_t a_columns, const Real* b, int64_t b_row,
                      int64_t b_columns, Real* c, int64_t c_row) {
  for (int64_t first = 0; first < vectors(b_columns); first += kColumns) {
    const int64_t width = smaller(kColumns, vectors(b_columns) - first);
    for (int64_t m = 0; m < a_columns; m += kRows)
      run_tile(smaller(kRows, a_columns - m), width,
               {a + m * to_rows, 1, kRows, b + first * kLanes, b_row, rows, c + m * c_row + first * kLanes, c_row});
  }
}

}  // namespace
}  // namespace JAXRNN_NAMESPACE
}  // namespace jaxrnn
