// Defines the kernels of batched multiclass NMS. All data stays on the device.
//
// Each image's candidates are sorted by score. The place in this order is a candidate's rank. Then
// they are sorted by class with a stable sort. In this order each class is a run, best first.
#pragma once

#include "nms.h"

namespace dynamic_atss {

constexpr int kTile = 64;      // boxes that are decided at a time, one bit each
constexpr int kThreads = 256;  // maximum number of threads per block

// Sets the scores of boxes that are not candidates to 0, so that they are sorted last.
template <typename T>
__global__ void mask_scores(const T* scores, int64_t size, T* masked) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < size) masked[i] = scores[i] > T(0) ? scores[i] : T(0);
}

// Gives the class of each rank, and whether it is a candidate. All are (N, K).
template <typename T>
__global__ void classes_by_rank(const int64_t* classes, const T* sorted_scores,
                                const int64_t* candidate, int64_t columns, int64_t size,
                                int64_t* ranked, bool* kept) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  ranked[i] = classes[i / columns * columns + candidate[i]];
  kept[i] = sorted_scores[i] > T(0);
}

// One image, sorted.
template <typename T>
struct Image {
  const T* boxes;            // (K, 4)
  const T* scores;           // by rank
  const int64_t* candidate;  // by rank
  const int64_t* classes;    // by place in the second order
  const int64_t* rank;       // by place
  bool* kept;                // by rank
  int64_t columns;           // K

  __device__ bool in_run(int64_t place, int64_t which) const {
    return place < columns && classes[place] == which && scores[rank[place]] > T(0);
  }
  __device__ bool begins_run(int64_t place) const {
    return place == 0 || classes[place - 1] != classes[place];
  }
  __device__ Box box(int64_t place, double offset) const {
    return box_at(boxes + 4 * candidate[rank[place]], offset);
  }
};

// The boxes of a tile in shared memory.
struct Tile {
  Box boxes[kTile];
  uint64_t suppresses[kTile];  // a bit for each later box of the tile
  bool alive[kTile];
};

// Keeps the boxes alive that no better box of the tile suppresses. All threads must call it.
__device__ inline void decide(Tile& tile, double threshold) {
  for (int i = threadIdx.x; i < kTile; i += blockDim.x) {
    uint64_t bits = 0;
    for (int j = i + 1; tile.alive[i] && j < kTile; ++j) {
      if (tile.alive[j] && overlap(tile.boxes[i], tile.boxes[j], threshold)) bits |= 1ull << j;
    }
    tile.suppresses[i] = bits;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    uint64_t gone = 0;
    for (int i = 0; i < kTile; ++i) {
      tile.alive[i] = tile.alive[i] && !(gone >> i & 1);
      if (tile.alive[i]) gone |= tile.suppresses[i];
    }
  }
  __syncthreads();
}

__device__ inline bool suppressed_by(const Tile& tile, const Box& box, double threshold) {
  for (int i = 0; i < kTile; ++i) {
    if (tile.alive[i] && overlap(tile.boxes[i], box, threshold)) return true;
  }
  return false;
}

// Decides tile by tile which boxes are kept, and then which later boxes they suppress.
template <typename T>
__device__ void suppress_run(const Image<T>& image, int64_t first, Tile& tile, double threshold,
                             double offset) {
  const int64_t which = image.classes[first];
  for (int64_t begin = first; image.in_run(begin, which); begin += kTile) {
    for (int i = threadIdx.x; i < kTile; i += blockDim.x) {
      tile.alive[i] = image.in_run(begin + i, which) && image.kept[image.rank[begin + i]];
      if (tile.alive[i]) tile.boxes[i] = image.box(begin + i, offset);
    }
    __syncthreads();
    decide(tile, threshold);
    for (int i = threadIdx.x; i < kTile; i += blockDim.x) {
      if (image.in_run(begin + i, which)) image.kept[image.rank[begin + i]] = tile.alive[i];
    }
    for (int64_t place = begin + kTile + threadIdx.x; image.in_run(place, which);
         place += blockDim.x) {
      bool& kept = image.kept[image.rank[place]];
      if (kept) kept = !suppressed_by(tile, image.box(place, offset), threshold);
    }
    __syncthreads();  // before the next tile takes the place of this one
  }
}

// Marks in `kept` the boxes that NMS keeps. A block handles the runs that begin in kTile places of
// an image.
template <typename T>
__global__ void suppress(const T* boxes, const T* scores, const int64_t* candidate,
                         const int64_t* classes, const int64_t* rank, int64_t columns,
                         double threshold, double offset, bool* kept) {
  __shared__ Tile tile;
  const int64_t blocks = (columns + kTile - 1) / kTile;  // per image
  const int64_t row = blockIdx.x / blocks * columns;
  const Image<T> image{boxes + 4 * row, scores + row, candidate + row, classes + row,
                       rank + row,      kept + row,   columns};
  const int64_t begin = blockIdx.x % blocks * kTile;
  for (int64_t place = begin; place < begin + kTile && place < columns; ++place) {
    if (image.begins_run(place)) suppress_run(image, place, tile, threshold, offset);
  }
}

// Writes the first `limit` kept boxes of each image by rank, then -1, and their number. A block
// handles an image, and a thread a range of ranks.
__global__ void compact(const bool* kept, const int64_t* candidate, int64_t columns, int64_t limit,
                        int64_t* keep, int64_t* counts) {
  __shared__ int64_t before[kThreads + 1];
  const int64_t row = blockIdx.x * columns;
  const int64_t each = (columns + blockDim.x - 1) / blockDim.x;
  const int64_t begin = each * threadIdx.x;
  const int64_t end = begin + each < columns ? begin + each : columns;
  int64_t count = 0;
  for (int64_t rank = begin; rank < end; ++rank) count += kept[row + rank];
  before[threadIdx.x + 1] = count;
  __syncthreads();
  if (threadIdx.x == 0) {
    before[0] = 0;
    for (unsigned i = 0; i < blockDim.x; ++i) before[i + 1] += before[i];
  }
  __syncthreads();
  int64_t* const out = keep + blockIdx.x * limit;
  int64_t place = before[threadIdx.x];
  for (int64_t rank = begin; rank < end && place < limit; ++rank) {
    if (kept[row + rank]) out[place++] = candidate[row + rank];
  }
  const int64_t total = before[blockDim.x] < limit ? before[blockDim.x] : limit;
  for (place = total + threadIdx.x; place < limit; place += blockDim.x) out[place] = -1;
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

}  // namespace dynamic_atss
