// Sorts for NMS on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace dynamic_atss {

template <typename Key>
struct Entry {
  Key key;
  int32_t item;
};

template <typename Key>
using Entries = std::unique_ptr<Entry<Key>[]>;

// Sorts by key, ascending and stable, byte by byte from the lowest. Skips bytes that are equal in
// all keys. The result is in `entries`, which may have been swapped with `spare`.
template <typename Key>
void radix_sort(Entries<Key>& entries, Entries<Key>& spare, int64_t count) {
  Key differ = 0;
  for (int64_t i = 1; i < count; ++i) differ |= entries[i].key ^ entries[0].key;
  for (size_t shift = 0; shift < 8 * sizeof(Key); shift += 8) {
    if (!(differ >> shift & 0xFF)) continue;
    int32_t place[257] = {};
    for (int64_t i = 0; i < count; ++i) ++place[(entries[i].key >> shift & 0xFF) + 1];
    for (int byte = 0; byte < 256; ++byte) place[byte + 1] += place[byte];
    for (int64_t i = 0; i < count; ++i) {
      spare[place[entries[i].key >> shift & 0xFF]++] = entries[i];
    }
    std::swap(entries, spare);
  }
}

}  // namespace dynamic_atss
