// Does batched multiclass NMS on the CPU.
//
// Takes an image's candidates best first, and compares each with the kept boxes of its class, eight
// at a time. With a limit, stops when enough boxes are kept. Threads handle images, or shares of
// their classes if there are fewer images than threads.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")  // the IoU is the same with all vectors
#endif
#include "nms.h"

#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

#include "nms_arguments.h"
#include "nms_lanes.h"
#include "nms_sort.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kCandidatesPerThread = 20000;  // about a millisecond

template <typename T>
using Bits = std::conditional_t<std::is_same_v<T, double>, uint64_t, uint32_t>;

// Gives a smaller key for a better score. Scores above 0 sort like their bits.
template <typename T>
Bits<T> key_of(T score) {
  Bits<T> bits;
  std::memcpy(&bits, &score, sizeof bits);
  return ~bits;
}

// A class of an image.
struct Group {
  int64_t first;  // its first lane
  int64_t kept;   // number of kept boxes
};

// The arguments of NMS.
template <typename T>
struct Request {
  const T* boxes;          // (N, K, 4)
  const T* scores;         // (N, K)
  const int64_t* classes;  // (N, K)
  NmsSizes sizes;
  double threshold, offset;
};

// The results by rank, (N, K) each. A candidate's rank is its place in the order of the scores.
struct Ranks {
  std::unique_ptr<int32_t[]> candidate;
  std::unique_ptr<bool[]> kept;  // false at first

  explicit Ranks(int64_t size) : candidate(new int32_t[size]), kept(new bool[size]()) {}
};

// One thread and its memory, for one image at a time.
template <typename T>
class Worker {
 public:
  explicit Worker(const Request<T>& request)
      : request_(request),
        scores_(new Entry<Bits<T>>[columns()]),
        spare_scores_(new Entry<Bits<T>>[columns()]),
        classes_(new Entry<uint64_t>[columns()]),
        spare_classes_(new Entry<uint64_t>[columns()]),
        group_(new int32_t[columns()]),
        groups_(new Group[columns()]),
        lanes_(new Lanes[columns()]) {}

  // Marks the kept boxes of the image, for every `shares`-th class from `share` on.
  void run(int64_t image, int64_t share, int64_t shares, Ranks& ranks) {
    const int64_t row = image * columns();
    rank_scores(request_.scores + row);
    group_classes(request_.classes + row);
    if (share == 0) {
      for (int64_t rank = 0; rank < count_; ++rank) ranks.candidate[row + rank] = candidate(rank);
    }
    suppress(request_.boxes + 4 * row, share, shares, &ranks.kept[row]);
  }

 private:
  int64_t columns() const { return request_.sizes.columns; }
  int32_t candidate(int64_t rank) const { return scores_[rank].item; }

  void rank_scores(const T* scores) {
    count_ = 0;
    for (int64_t i = 0; i < columns(); ++i) {
      if (scores[i] > 0) scores_[count_++] = {key_of(scores[i]), static_cast<int32_t>(i)};
    }
    radix_sort(scores_, spare_scores_, count_);
  }

  void group_classes(const int64_t* classes) {
    for (int64_t rank = 0; rank < count_; ++rank) {
      classes_[rank] = {static_cast<uint64_t>(classes[candidate(rank)]),
                        static_cast<int32_t>(rank)};
    }
    radix_sort(classes_, spare_classes_, count_);
    int32_t group = 0;
    int64_t lanes = 0;
    for (int64_t begin = 0, end; begin < count_; begin = end, ++group) {
      for (end = begin; end < count_ && classes_[end].key == classes_[begin].key; ++end) {
        group_[classes_[end].item] = group;
      }
      groups_[group] = {lanes, 0};
      lanes += lanes_of(end - begin);
    }
  }

  void suppress(const T* boxes, int64_t share, int64_t shares, bool* kept) {
    int64_t left = request_.sizes.limit;
    for (int64_t rank = 0; rank < count_ && left > 0; ++rank) {
      if (shares > 1 && group_[rank] % shares != share) continue;
      Group& group = groups_[group_[rank]];
      const Box box = box_at(boxes + 4 * candidate(rank), request_.offset);
      if (overlaps(&lanes_[group.first], lanes_of(group.kept), box, request_.threshold)) continue;
      keep(group, box);
      kept[rank] = true;
      --left;
    }
  }

  void keep(Group& group, const Box& box) {
    Lanes& last = lanes_[group.first + group.kept / kLanes];
    if (group.kept % kLanes == 0) last.clear();
    last.put(static_cast<int>(group.kept++ % kLanes), box);
  }

  static int64_t lanes_of(int64_t boxes) { return (boxes + kLanes - 1) / kLanes; }

  const Request<T>& request_;
  Entries<Bits<T>> scores_, spare_scores_;
  Entries<uint64_t> classes_, spare_classes_;
  std::unique_ptr<int32_t[]> group_;  // by rank
  std::unique_ptr<Group[]> groups_;
  std::unique_ptr<Lanes[]> lanes_;
  int64_t count_ = 0;  // number of candidates
};

// Writes the first kept boxes of an image, then -1. Returns their number.
int64_t collect(const Ranks& ranks, int64_t image, const NmsSizes& sizes, int64_t* keep) {
  const int64_t row = image * sizes.columns;
  int64_t* const out = keep + image * sizes.limit;
  int64_t found = 0;
  for (int64_t i = row; i < row + sizes.columns && found < sizes.limit; ++i) {
    if (ranks.kept[i]) out[found++] = ranks.candidate[i];
  }
  std::fill(out + found, out + sizes.limit, -1);
  return found;
}

template <typename T>
void run_all(const Request<T>& request, int64_t* keep, int64_t* counts) {
  const int64_t images = request.sizes.images, columns = request.sizes.columns;
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t count = std::clamp<int64_t>(images * columns / kCandidatesPerThread, 1, threads);
  const int64_t shares = images == 0 ? 1 : (count + images - 1) / images;
  // Allocates all memory before the threads start, because they must not throw.
  Ranks ranks(images * columns);
  std::vector<Worker<T>> workers;
  workers.reserve(count);
  for (int64_t i = 0; i < count; ++i) workers.emplace_back(request);
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t task = i; task < images * shares; task += count) {
        const int64_t image = task / shares;
        workers[i].run(image, task % shares, shares, ranks);
        if (shares == 1) counts[image] = collect(ranks, image, request.sizes, keep);
      }
    }
  });
  for (int64_t image = 0; shares > 1 && image < images; ++image) {
    counts[image] = collect(ranks, image, request.sizes, keep);
  }
}

template <typename T>
std::tuple<Tensor, Tensor> nms_of(const Tensor& boxes, const Tensor& scores, const Tensor& classes,
                                  const NmsSizes& sizes, double threshold, double offset) {
  Tensor held[3];
  const Request<T> request{elements<T>(boxes, held[0]),
                           elements<T>(scores, held[1]),
                           elements<int64_t>(classes, held[2]),
                           sizes,
                           threshold,
                           offset};
  Tensor keep = torch::stable::new_empty(classes, {sizes.images, sizes.limit});
  Tensor counts = torch::stable::new_empty(classes, {sizes.images});
  run_all(request, static_cast<int64_t*>(keep.mutable_data_ptr()),
          static_cast<int64_t*>(counts.mutable_data_ptr()));
  return {keep, counts};
}

std::tuple<Tensor, Tensor> batched_multiclass_nms(const Tensor& boxes, const Tensor& scores,
                                                  const Tensor& classes, double threshold,
                                                  double offset, std::optional<int64_t> limit) {
  const NmsSizes sizes = nms_sizes(boxes, scores, classes, threshold, limit);
  if (scores.scalar_type() == ScalarType::Double) {
    return nms_of<double>(boxes, scores, classes, sizes, threshold, offset);
  }
  return nms_of<float>(boxes, scores, classes, sizes, threshold, offset);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("batched_multiclass_nms", TORCH_BOX(&batched_multiclass_nms));
}

}  // namespace dynamic_atss
