// Memory that is kept between calls, and loops over XLA's own threads.
#pragma once

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace jaxrnn {

constexpr size_t kPage = size_t{1} << 12, kHugePage = size_t{1} << 21;

// Asks for large pages before the first touch: one fault for 2 MiB in place of 512.
inline void use_huge_pages(void* memory, size_t bytes) {
  if (bytes < 2 * kHugePage) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) & ~uintptr_t{kPage - 1};
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) & ~uintptr_t{kPage - 1};
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

// A block of memory for one call. A few blocks are kept for later calls, the newest; any thread may ask for one.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    if (bytes == 0) return;
    if (!reuse(bytes)) allocate(bytes);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  ~Scratch() {
    if (block_.bytes > kKeptBytes) std::free(block_.memory);
    if (!block_.memory || block_.bytes > kKeptBytes) return;
    std::lock_guard<std::mutex> guard(pool().mutex);
    pool().blocks.push_back(block_);
    pool().bytes += block_.bytes;
    while (pool().blocks.size() > kKeptBlocks || pool().bytes > kKeptBytes) std::free(take(0).memory);
  }

  template <class Real>
  Real* as() const { return static_cast<Real*>(block_.memory); }  // null if there is no memory

 private:
  struct Block {
    void* memory = nullptr;
    size_t bytes = 0;
  };
  struct Pool {
    Pool() { blocks.reserve(kKeptBlocks + 1); }
    std::mutex mutex;
    std::vector<Block> blocks;  // the oldest first
    size_t bytes = 0;
  };
  static constexpr size_t kKeptBlocks = 8, kKeptBytes = size_t{1} << 27;

  static Pool& pool() {
    static Pool* pool = new Pool;  // never destroyed: XLA's threads may outlive static objects
    return *pool;
  }

  bool reuse(size_t bytes) {
    std::lock_guard<std::mutex> guard(pool().mutex);
    auto& blocks = pool().blocks;
    auto fits = std::find_if(blocks.begin(), blocks.end(), [bytes](const Block& block) {
      return block.bytes >= bytes && block.bytes <= 4 * bytes + (size_t{1} << 18);
    });
    if (fits == blocks.end()) return false;
    block_ = take(fits - blocks.begin());
    return true;
  }

  // A block of the pool, out of it; its mutex is held.
  static Block take(ptrdiff_t at) {
    auto& blocks = pool().blocks;
    const Block block = blocks[at];
    blocks.erase(blocks.begin() + at);
    pool().bytes -= block.bytes;
    return block;
  }

  void allocate(size_t bytes) {
    const size_t page = bytes >= kHugePage ? kHugePage : kPage;
    block_.bytes = (bytes + page - 1) / page * page;
    block_.memory = std::aligned_alloc(page, block_.bytes);
    if (block_.memory) use_huge_pages(block_.memory, block_.bytes);
  }

  Block block_;
};

inline void pause() { __builtin_ia32_pause(); }

// While it lives, numbers too small to be normal are zero on this thread, as in XLA's own code.
class FlushDenormals {
 public:
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // results, and operands
  ~FlushDenormals() { _mm_setcsr(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  const unsigned before_;
};

// body(i, worker) for i < count on this thread and up to workers - 1 of the pool. No two calls at a time have the same
// worker < workers. Waits for what has begun alone, so that calls inside the pool's own threads cannot block each other.
template <class Body>
void parallel(xla::ffi::ThreadPool& pool, int64_t count, int64_t workers, const Body& body) {
  if (count <= 1 || workers <= 1) {
    const FlushDenormals flush;
    for (int64_t i = 0; i < count; ++i) body(i, 0);
    return;
  }
  struct State {
    std::atomic<int64_t> next{0}, done{0}, workers{0};
    int64_t count;
    const Body* body;  // dangles once all is done; whoever comes later finds nothing to do
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto state = std::make_shared<State>();
  state->count = count;
  state->body = &body;
  auto work = [state] {
    const FlushDenormals flush;
    int64_t worker = -1;
    for (int64_t i; (i = state->next.fetch_add(1)) < state->count;) {
      if (worker < 0) worker = state->workers.fetch_add(1);
      (*state->body)(i, worker);
      if (state->done.fetch_add(1) + 1 == state->count) {
        std::lock_guard<std::mutex> guard(state->mutex);
        state->all_done.notify_all();
      }
    }
  };
  try {
    for (int64_t i = 1; i < std::min(workers, count); ++i) pool.Schedule(std::decay_t<decltype(work)>(work));
  } catch (...) {  // fewer workers do it all, too; those that have begun read what lies on this stack
  }
  work();
  for (int spin = 0; spin < 2000 && state->done.load() < count; ++spin) pause();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done.load() >= count; });
}

}  // namespace jaxrnn
